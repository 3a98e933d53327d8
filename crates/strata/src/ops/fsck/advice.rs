//! What people can do about damage.

use store::{Damage, Role};

use super::{Outcome, State};

/// How many commands are told.
const TOLD: usize = 3;

impl Outcome {
    /// Says what people can do, with commands of `program`.
    pub fn advice_for(&self, program: &str) -> Option<String> {
        let needed_by = &self.finding.needed_by;
        match (&self.state, &self.finding.damage) {
            (State::Found, _) => Some(format!("{program} system fsck --repair")),
            (
                State::Repaired { .. },
                Damage::Tar { .. } | Damage::Index { .. } | Damage::Tree { .. },
            ) => {
                let running = needed_by.running.join(", ");
                (!running.is_empty())
                    .then(|| format!("restart, as they use the damaged file: {running}"))
            }
            (State::Repaired { .. }, _) => None,
            (State::Left { .. }, Damage::Container { .. }) => {
                Some(format!("{program} rm {}", needed_by.containers.join(" ")))
            }
            (
                State::Left { .. },
                Damage::Blob {
                    role: Role::Manifest,
                    ..
                },
            ) => Some(format!(
                "the images run, but get a new digest when they are pushed; to have the old one again: {}",
                self.pull(program)
            )),
            (State::Left { .. }, Damage::Blob { .. } | Damage::Tar { .. }) => {
                Some(self.pull(program))
            }
            (State::Left { .. }, Damage::Record { mend, .. }) => {
                let name = mend.as_ref().and_then(store::Mend::lost_name)?;
                Some(format!("{program} pull {name}, or build or load it again"))
            }
            (State::Left { .. }, _) => None,
        }
    }

    fn pull(&self, program: &str) -> String {
        let sources = &self.finding.needed_by.sources;
        if sources.is_empty() {
            return match self.finding.needed_by.images.first() {
                Some(name) => format!("build, load or pull {name} again"),
                None => "build, load or pull it again".to_owned(),
            };
        }
        let commands = sources.iter().take(TOLD);
        let commands: Vec<String> = commands
            .map(|name| format!("{program} pull {name}"))
            .collect();
        commands.join("; ")
    }
}
