//! Lists: a table by default, or whatever `--format` asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::table;
use super::template::{Format, FormatError, Purpose, Subject};

/// One thing that a row of a list has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// The name in templates.
    pub(crate) name: &'static str,
    /// The header in tables.
    pub(crate) header: &'static str,
}

impl Field {
    pub(crate) const fn new(name: &'static str, header: &'static str) -> Self {
        Self { name, header }
    }
}

/// The rows of a list, each with one cell for each field.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) fields: &'static [Field],
    /// The name of the row's type in docker, which its errors show.
    pub(crate) kind: &'static str,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Listing {
    /// Returns the text of the list in `format`; `columns` are the fields of the default table.
    pub(crate) fn render(
        &self,
        format: Option<&str>,
        columns: &[&str],
    ) -> Result<String, FormatError> {
        match format.map(unescape).as_deref().map(str::trim) {
            None | Some("" | "table") => Ok(self.table(columns)),
            Some("json" | "{{json .}}") => Ok(self.json()),
            Some(format) => match format.strip_prefix("table") {
                Some(template) => self.template_table(template.trim()),
                None => self.lines(format, Purpose::Data),
            },
        }
    }

    /// Returns one cell of each row, a line each.
    pub(crate) fn column(&self, name: &str) -> String {
        let index = self.index(name);
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&row[index]);
            text.push('\n');
        }
        text
    }

    fn index(&self, name: &str) -> usize {
        self.fields
            .iter()
            .position(|field| field.name == name)
            .expect("invariant: columns are names of fields")
    }

    fn table(&self, columns: &[&str]) -> String {
        let columns: Vec<usize> = columns.iter().map(|name| self.index(name)).collect();
        let header: Vec<&str> = columns.iter().map(|i| self.fields[*i].header).collect();
        let mut text = header.join("\t");
        text.push('\n');
        for row in &self.rows {
            for (position, column) in columns.iter().enumerate() {
                if position > 0 {
                    text.push('\t');
                }
                text.push_str(&row[*column]);
            }
            text.push('\n');
        }
        table::align(&text)
    }

    fn template_table(&self, template: &str) -> Result<String, FormatError> {
        let headers = self.fields.iter().map(|field| field.header.to_owned());
        let header = Format::parse(template, Purpose::Header, Subject::Row(self.kind))?
            .execute(&self.value(headers))?;
        let lines = self.lines(template, Purpose::Data)?;
        Ok(table::align(&format!("{header}\n{lines}")))
    }

    fn lines(&self, template: &str, purpose: Purpose) -> Result<String, FormatError> {
        let format = Format::parse(template, purpose, Subject::Row(self.kind))?;
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&format.execute(&self.value(row.iter().cloned()))?);
            text.push('\n');
        }
        Ok(text)
    }

    fn value(&self, cells: impl Iterator<Item = String>) -> Value {
        let names = self.fields.iter().map(|field| field.name);
        let entries: BTreeMap<Arc<str>, Value> = names
            .zip(cells)
            .map(|(name, cell)| (name.into(), Value::String(cell.into())))
            .collect();
        Value::Map(Arc::new(entries))
    }

    /// Returns the rows, each as names with cells.
    pub(crate) fn objects(&self) -> Vec<BTreeMap<&'static str, &String>> {
        let rows = self.rows.iter();
        rows.map(|row| {
            let names = self.fields.iter().map(|field| field.name);
            names.zip(row).collect()
        })
        .collect()
    }

    fn json(&self) -> String {
        let mut text = String::new();
        for object in self.objects() {
            let json = serde_json::to_string(&object).expect("strings are always JSON");
            text.push_str(&escape_html(&json));
            text.push('\n');
        }
        text
    }
}

/// Go escapes these in JSON; outside strings they do not occur.
fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// In a shell's quotes a tab is written as `\t`.
fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field::new("ID", "IMAGE ID"),
        Field::new("Repository", "REPOSITORY"),
        Field::new("Size", "SIZE"),
    ];

    fn listing() -> Listing {
        Listing {
            fields: FIELDS,
            kind: "*formatter.imageContext",
            rows: vec![
                vec!["6d7b1c114c6c".into(), "demo".into(), "164MB".into()],
                vec!["5bf941f15a92".into(), "<none>".into(), "0B".into()],
            ],
        }
    }

    fn check(format: Option<&str>, expected: &str) {
        let text = listing().render(format, &["Repository", "ID"]);
        assert_eq!(text.expect("valid"), expected, "{format:?}");
    }

    #[test]
    fn every_form_of_format_is_dockers() {
        let table = "REPOSITORY   IMAGE ID\ndemo         6d7b1c114c6c\n<none>       5bf941f15a92\n";
        check(None, table);
        check(Some("table"), table);
        check(
            Some("table {{.ID}}\\t{{upper .Size}}"),
            "IMAGE ID       SIZE\n6d7b1c114c6c   164MB\n5bf941f15a92   0B\n",
        );
        check(
            Some("{{.Repository}}: {{.Size}}"),
            "demo: 164MB\n<none>: 0B\n",
        );
        check(
            Some("json"),
            "{\"ID\":\"6d7b1c114c6c\",\"Repository\":\"demo\",\"Size\":\"164MB\"}\n\
             {\"ID\":\"5bf941f15a92\",\"Repository\":\"\\u003cnone\\u003e\",\"Size\":\"0B\"}\n",
        );
    }

    #[test]
    fn an_unknown_field_names_the_type_of_the_row() {
        let error = listing()
            .render(Some("{{.Nope}}"), &[])
            .expect_err("no such field");
        assert_eq!(
            error.to_string(),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate \
             field Nope in type *formatter.imageContext"
        );
    }
}
