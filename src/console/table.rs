//! The table of commands: what is typed, what it becomes, what it is for.
//!
//! One table serves the serial console, `lineside console`, `lineside do` and the socket. A new
//! command is an entry in [`TABLE`], a page in [`super::pages`] and an arm in [`super::commands`];
//! help, completion and suggestions follow from the entry.

use std::fmt::Write as _;

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// One line for `help`.
    pub about: &'static str,
    /// What may follow the name; the first form is meant where nothing does.
    pub forms: &'static [Form],
    /// Lines to learn from.
    pub examples: &'static [&'static str],
    /// What it does to the appliance.
    pub nature: Nature,
}

/// What a command does to the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It only looks.
    Looks,
    /// It changes something.
    Changes,
    /// It is about the session itself, and none of the appliance's business.
    Session,
}

/// What follows a command's name.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The word that chooses this form; empty where there is none.
    pub action: &'static str,
    /// What follows in this order.
    pub takes: &'static [Take],
    /// What may stand before it, as `--name value`.
    pub options: &'static [Take],
}

/// One part of a line.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// Its key in the JSON; a dot leads into an object.
    pub key: &'static str,
    /// How help and options call it.
    pub name: &'static str,
    /// What it is.
    pub what: What,
    /// Whether it may be left out.
    pub need: Need,
}

/// What a part is.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A word.
    Word,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number.
    Number,
    /// Nothing follows: it is there, or it is not.
    Flag,
    /// The rest of the line.
    Rest,
    /// A word that can be completed.
    Id(Ids),
}

/// Where words come from that can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The names of commands.
    Commands,
    /// Ids of the latest requests.
    Requests,
    /// Ids of what waits for a person.
    Items,
}

/// Whether a part may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No.
    Must,
    /// Yes.
    May,
}

const fn must(key: &'static str, name: &'static str, what: What) -> Take {
    Take {
        key,
        name,
        what,
        need: Need::Must,
    }
}

const fn may(key: &'static str, name: &'static str, what: What) -> Take {
    Take {
        key,
        name,
        what,
        need: Need::May,
    }
}

const fn form(action: &'static str, takes: &'static [Take], options: &'static [Take]) -> Form {
    Form {
        action,
        takes,
        options,
    }
}

const PLAIN: &[Form] = &[form("", &[], &[])];
const ITEM: Take = must("id", "ID", What::Id(Ids::Items));
const REVIEWER: &[Take] = &[may("reviewer", "as", What::Word)];
const LAST: Take = may("max", "last", What::Number);
const CLASSES: What = What::OneOf(&["public", "internal", "restricted"]);
/// The states of a request's timeline, in words that need no quotes.
const STATES: What = What::OneOf(&["open", "settled", "answered", "refused"]);
const LEVELS: What = What::OneOf(&["error", "warn", "info", "debug", "trace"]);
const PROMPT: Take = must("request.prompt", "TEXT", What::Rest);
const ASKED: &[Take] = &[
    may("request.task", "task", What::Word),
    may("request.classification", "classification", CLASSES),
    may("request.deadline_ms", "deadline-ms", What::Number),
    may("request.id", "id", What::Word),
];

/// Every command, in the order of `help`.
pub const TABLE: &[Command] = &[
    Command {
        name: "help",
        about: "this list, or how to use one command",
        forms: &[form(
            "",
            &[may("command", "COMMAND", What::Id(Ids::Commands))],
            &[],
        )],
        examples: &["help", "help review"],
        nature: Nature::Looks,
    },
    Command {
        name: "status",
        about: "how the appliance is",
        forms: PLAIN,
        examples: &["status"],
        nature: Nature::Looks,
    },
    Command {
        name: "queues",
        about: "what waits where, and what it takes on the disk",
        forms: PLAIN,
        examples: &["queues"],
        nature: Nature::Looks,
    },
    Command {
        name: "thermals",
        about: "what the sensors say, and where the temperature is going",
        forms: PLAIN,
        examples: &["thermals"],
        nature: Nature::Looks,
    },
    Command {
        name: "memory",
        about: "what there is of memory, who has it, and what the engine may take",
        forms: PLAIN,
        examples: &["memory"],
        nature: Nature::Looks,
    },
    Command {
        name: "requests",
        about: "the latest requests, newest first",
        forms: &[form(
            "",
            &[],
            &[
                LAST,
                may("client", "client", What::Word),
                may("state", "state", STATES),
            ],
        )],
        examples: &[
            "requests",
            "requests --client press7 --state refused --last 5",
        ],
        nature: Nature::Looks,
    },
    Command {
        name: "trace",
        about: "what became of a request",
        forms: &[form("", &[must("id", "ID", What::Id(Ids::Requests))], &[])],
        examples: &["trace press7-000123"],
        nature: Nature::Looks,
    },
    Command {
        name: "ask",
        about: "put a request, as a device would",
        forms: &[form("", &[PROMPT], ASKED)],
        examples: &["ask --task triage CNC-07 spindle vibration 9.8 mm/s rising"],
        nature: Nature::Changes,
    },
    Command {
        name: "explain",
        about: "where a request would go, by which rule, and what would change that",
        forms: &[form("", &[PROMPT], ASKED)],
        examples: &["explain --classification public --task triage spindle hums"],
        nature: Nature::Looks,
    },
    Command {
        name: "review",
        about: "what waits for a person, and a person's word on it",
        forms: &[
            form("list", &[], &[LAST, may("after", "after", What::Word)]),
            form("show", &[ITEM], &[]),
            form("take", &[ITEM], REVIEWER),
            form("release", &[ITEM], REVIEWER),
            form("approve", &[ITEM], REVIEWER),
            form(
                "correct",
                &[ITEM, must("text", "TEXT", What::Rest)],
                REVIEWER,
            ),
            form(
                "reject",
                &[ITEM, must("reason", "REASON", What::Rest)],
                REVIEWER,
            ),
        ],
        examples: &[
            "review",
            "review take 9f4e02",
            "review correct --as anna 9f4e02 stop the spindle",
            "review reject 9f4e02 the picture is blurred",
        ],
        nature: Nature::Changes,
    },
    Command {
        name: "learned",
        about: "what reviewers taught, by task",
        forms: &[form(
            "",
            &[],
            &[
                may("undo", "undo", What::Word),
                may("acknowledge", "acknowledge", What::Word),
            ],
        )],
        examples: &["learned", "learned --undo triage"],
        nature: Nature::Changes,
    },
    Command {
        name: "models",
        about: "the packages; take the last one back, or choose one whatever the ring says",
        forms: &[
            form("list", &[], &[]),
            form("show", &[may("package", "NAME-SEQ", What::Word)], &[]),
            form("verify", &[may("package", "NAME-SEQ", What::Word)], &[]),
            form("rollback", &[may("reason", "REASON", What::Rest)], &[]),
            form("pin", &[must("package", "NAME-SEQ", What::Word)], &[]),
            form("unpin", &[], &[]),
        ],
        examples: &[
            "models",
            "models verify",
            "models rollback it answers in German",
        ],
        nature: Nature::Changes,
    },
    Command {
        name: "ota",
        about: "packages over the air: what is here; look now, from a stick too; end that",
        forms: &[
            form("status", &[], &[]),
            form(
                "check",
                &[],
                &[
                    may("from", "from", What::Word),
                    may("package", "package", What::Word),
                ],
            ),
            form("cancel", &[], &[]),
        ],
        examples: &["ota", "ota check", "ota check --from /media/stick"],
        nature: Nature::Changes,
    },
    Command {
        name: "broker",
        about: "the line to the broker",
        forms: PLAIN,
        examples: &["broker"],
        nature: Nature::Looks,
    },
    Command {
        name: "uplink",
        about: "the models elsewhere, and what waits for them",
        forms: PLAIN,
        examples: &["uplink"],
        nature: Nature::Looks,
    },
    Command {
        name: "config",
        about: "the settings in force; secrets are left out",
        forms: &[form("show", &[], &[])],
        examples: &["config show"],
        nature: Nature::Looks,
    },
    Command {
        name: "check",
        about: "look at the configuration and this machine, and say what to do",
        forms: PLAIN,
        examples: &["check"],
        nature: Nature::Looks,
    },
    Command {
        name: "logs",
        about: "the last lines of the log",
        forms: &[form(
            "",
            &[],
            &[
                LAST,
                may("level", "level", LEVELS),
                may("since", "since", What::Number),
                may("follow", "follow", What::Flag),
            ],
        )],
        examples: &["logs", "logs --level warn --last 10", "logs --follow"],
        nature: Nature::Looks,
    },
    Command {
        name: "bundle",
        about: "a diagnostics archive without any request's text, to a USB stick",
        forms: &[form("", &[], &[may("to", "to", What::Word)])],
        examples: &["bundle", "bundle --to /media/stick"],
        nature: Nature::Changes,
    },
    Command {
        name: "maintenance",
        about: "finish what is here and refuse what is new, until it is off again",
        forms: &[
            form("show", &[], &[]),
            form("on", &[], &[]),
            form("off", &[], &[]),
        ],
        examples: &["maintenance on", "maintenance", "maintenance off"],
        nature: Nature::Changes,
    },
    Command {
        name: "restart",
        about: "finish in order and start again",
        forms: PLAIN,
        examples: &["restart"],
        nature: Nature::Changes,
    },
    Command {
        name: "factory-reset",
        about: "forget requests, replies and what was learnt; models stay",
        forms: &[form("", &[], &[may("confirm", "confirm", What::Word)])],
        examples: &["factory-reset"],
        nature: Nature::Changes,
    },
    Command {
        name: "mode",
        about: "json: one JSON object a line, no echo, no paging; text: for people; color: the same with states in colour",
        forms: &[form(
            "",
            &[must(
                "mode",
                "MODE",
                What::OneOf(&["json", "text", "color"]),
            )],
            &[],
        )],
        examples: &["mode json"],
        nature: Nature::Session,
    },
    Command {
        name: "page",
        about: "whether long answers stop at each page",
        forms: &[form(
            "",
            &[must("page", "PAGE", What::OneOf(&["on", "off"]))],
            &[],
        )],
        examples: &["page off"],
        nature: Nature::Session,
    },
    Command {
        name: "exit",
        about: "leave",
        forms: PLAIN,
        examples: &["exit"],
        nature: Nature::Session,
    },
];

/// Other words for a command.
const ALIASES: &[(&str, &str)] = &[("quit", "exit"), ("logout", "exit"), ("?", "help")];

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Command> {
    let alias = ALIASES.iter().find(|(other, _)| *other == name);
    let name = alias.map_or(name, |(_, name)| name);
    TABLE.iter().find(|command| command.name == name)
}

/// The names of all commands.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    TABLE.iter().map(|command| command.name)
}

impl Command {
    /// The form that a word chooses.
    pub fn form(&self, action: &str) -> Option<&'static Form> {
        self.forms.iter().find(|form| form.action == action)
    }

    /// Whether a word must choose one of its forms.
    pub fn has_actions(&self) -> bool {
        self.forms.iter().any(|form| !form.action.is_empty())
    }

    /// How each form is typed.
    pub fn usage(&self) -> Vec<String> {
        self.forms
            .iter()
            .map(|form| form.usage(self.name))
            .collect()
    }
}

impl Form {
    fn usage(&self, command: &str) -> String {
        let mut text = command.to_owned();
        if !self.action.is_empty() {
            let _ = write!(text, " {}", self.action); // writing to a String cannot fail
        }
        for option in self.options {
            // Writing to a String cannot fail.
            let _ = match option.what {
                What::Flag => write!(text, " [--{}]", option.name),
                What::Word | What::OneOf(_) | What::Number | What::Rest | What::Id(_) => {
                    write!(text, " [--{} {}]", option.name, option.placeholder())
                }
            };
        }
        for take in self.takes {
            let shown = take.placeholder();
            let _ = match take.need {
                Need::Must => write!(text, " {shown}"),
                Need::May => write!(text, " [{shown}]"),
            };
        }
        text
    }
}

impl Take {
    fn placeholder(&self) -> String {
        match self.what {
            What::OneOf(words) => words.join("|"),
            What::Number => "N".into(),
            What::Word | What::Flag | What::Rest | What::Id(_) => self.name.to_uppercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_every_command_can_be_learnt() {
        for (at, command) in TABLE.iter().enumerate() {
            assert!(TABLE[..at].iter().all(|other| other.name != command.name));
            assert!(!command.forms.is_empty() && !command.examples.is_empty());
            for example in command.examples {
                assert!(example.starts_with(command.name), "{example}");
            }
        }
    }

    #[test]
    fn usage_names_every_part() {
        let review = find("review").unwrap().usage();
        assert!(
            review.contains(&"review correct [--as AS] ID TEXT".to_owned()),
            "{review:?}"
        );
        let help = find("?").unwrap().usage();
        assert_eq!(help, ["help [COMMAND]"]);
        let requests = find("requests").unwrap().usage();
        assert_eq!(
            requests,
            ["requests [--last N] [--client CLIENT] [--state open|settled|answered|refused]"]
        );
    }
}
