//! The parser: instructions to stages.

use crate::error::{Fault, ParseErrorKind};
use crate::instruction::{self, Statement};
use crate::node::{self, Node, Tree};
use crate::{Dockerfile, Instruction, ParseError, Spanned, Stage};

/// Parses a Dockerfile.
pub fn parse(text: &[u8]) -> Result<Dockerfile, ParseError> {
    stages(text).map_err(|fault| fault.locate(text))
}

/// Parses one instruction that an image keeps for builds on top of it (`ONBUILD`).
pub fn parse_trigger(text: &str) -> Result<Spanned<Instruction>, ParseError> {
    trigger(text.as_bytes()).map_err(|fault| fault.locate(text.as_bytes()))
}

fn stages(text: &[u8]) -> Result<Dockerfile, Fault> {
    if text.is_empty() {
        return Err(Fault::of_file(ParseErrorKind::Empty));
    }
    let Tree {
        nodes,
        directives,
        warnings,
    } = node::tree(text)?;
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for node in &nodes {
        match statement(node)? {
            Statement::From(from) => stages.push(Stage {
                name: from.name,
                base: from.base,
                description: from.description,
                platform: from.platform,
                instructions: Vec::new(),
                span: node.span,
                text: node.line.trim().to_owned(),
                comments: node.comments.clone(),
            }),
            Statement::Instruction(instruction) => match (stages.last_mut(), instruction) {
                (Some(stage), instruction) => stage.instructions.push(spanned(node, instruction)),
                (None, Instruction::Arg(arg)) => global_args.push(spanned(node, arg)),
                (None, _) => return Err(Fault::new(ParseErrorKind::NoCurrentStage, node.span)),
            },
        }
    }
    if stages.is_empty() {
        return Err(Fault::of_file(ParseErrorKind::NoStages));
    }
    Ok(Dockerfile {
        directives,
        global_args,
        stages,
        warnings,
    })
}

fn trigger(text: &[u8]) -> Result<Spanned<Instruction>, Fault> {
    let tree = node::tree(text)?;
    let [node] = tree.nodes.as_slice() else {
        return Err(Fault::of_file(ParseErrorKind::TriggerCount));
    };
    match statement(node)? {
        Statement::Instruction(Instruction::OnBuild(_)) => {
            Err(Fault::new(ParseErrorKind::OnBuildChain, node.span))
        }
        Statement::Instruction(instruction) => Ok(spanned(node, instruction)),
        Statement::From(_) => {
            let kind = ParseErrorKind::OnBuildTrigger("FROM".to_owned());
            Err(Fault::new(kind, node.span))
        }
    }
}

fn statement(node: &Node) -> Result<Statement, Fault> {
    instruction::from_node(node).map_err(|kind| Fault::new(kind, node.span))
}

fn spanned<T>(node: &Node, value: T) -> Spanned<T> {
    Spanned {
        value,
        span: node.span,
        text: node.line.trim().to_owned(),
        comments: node.comments.clone(),
    }
}

#[cfg(test)]
mod tests;
