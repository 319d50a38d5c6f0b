//! What a template's operators do, with the meter running.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, functions};

/// Lists in lists. A deeper value is no message, and to drop it would take the stack.
const MAX_NESTING: usize = 16;
/// Numbers of a range: no conversation is longer.
const MAX_RANGE: i64 = 1000;

/// What a template can call by name.
pub(super) const FUNCTIONS: [&str; 3] = ["raise_exception", "namespace", "range"];

pub(super) type Outcome<T = Value> = Result<T, Error>;

/// Bytes that are left to read and write.
pub(super) struct Meter {
    left: AtomicUsize,
    raised: OnceLock<String>,
}

pub(super) fn error(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

impl Meter {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
            raised: OnceLock::new(),
        })
    }

    /// Takes bytes away, or fails for good.
    pub(super) fn charge(&self, bytes: usize) -> Outcome<()> {
        let left = self.left.load(Ordering::Relaxed);
        let rest = left.saturating_sub(bytes);
        self.left.store(rest, Ordering::Relaxed);
        if rest == 0 {
            return Err(error("too many bytes"));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// What the template refused with.
    pub(super) fn raised(&self) -> Option<String> {
        self.raised.get().cloned()
    }

    /// A value as text; lists and maps have none, for they can be endless.
    pub(super) fn text<'v>(&self, value: &'v Value) -> Outcome<Cow<'v, str>> {
        let text: Cow<'v, str> = match Shape::of(value) {
            Shape::Nothing if value.is_undefined() => "".into(),
            Shape::Nothing => "None".into(),
            Shape::Truth if value.is_true() => "True".into(),
            Shape::Truth => "False".into(),
            Shape::Number => value.to_string().into(),
            Shape::Text => value.as_str().unwrap_or_default().into(),
            Shape::List | Shape::Map | Shape::Other => {
                return Err(error(format!("a {} is no text", value.kind())));
            }
        };
        self.charge(text.len() + 1)?;
        Ok(text)
    }

    /// The items of a list, or the characters of a text, or the keys of a map.
    pub(super) fn items(&self, value: &Value) -> Outcome<Vec<Value>> {
        let mut items = Vec::new();
        for item in value.try_iter()? {
            self.charge(size_of::<Value>())?;
            items.push(item);
        }
        Ok(items)
    }

    /// Charges all that a value holds, as often as it holds it.
    fn weigh(&self, value: &Value, nesting: usize) -> Outcome<()> {
        if nesting > MAX_NESTING {
            return Err(error("lists or maps in each other, too deep"));
        }
        match Shape::of(value) {
            Shape::List => {
                for item in self.items(value)? {
                    self.weigh(&item, nesting + 1)?;
                }
            }
            Shape::Map => {
                for key in self.items(value)? {
                    self.weigh(&value.get_item(&key)?, nesting + 1)?;
                }
            }
            Shape::Nothing | Shape::Truth | Shape::Number | Shape::Text | Shape::Other => {
                self.charge(size_of::<Value>() + value.as_str().map_or(0, str::len))?;
            }
        }
        Ok(())
    }

    fn list(&self, items: Vec<Value>) -> Outcome {
        for item in &items {
            self.weigh(item, 1)?;
        }
        Ok(Value::from(items))
    }

    fn map(&self, pairs: &[Value]) -> Outcome {
        let mut map = Vec::new();
        for pair in pairs.chunks_exact(2) {
            let key = self.text(&pair[0])?.into_owned();
            self.weigh(&pair[1], 1)?;
            map.push((key, pair[1].clone()));
        }
        Ok(map.into_iter().collect())
    }

    pub(super) fn concat(&self, left: &Value, right: &Value) -> Outcome {
        let (left, right) = (self.text(left)?, self.text(right)?);
        Ok(Value::from([left, right].concat()))
    }

    fn sum(&self, left: &Value, right: &Value) -> Outcome {
        if left.as_str().is_some() && right.as_str().is_some() {
            return self.concat(left, right);
        }
        if is_list(left) && is_list(right) {
            let mut items = self.items(left)?;
            items.extend(self.items(right)?);
            return self.list(items);
        }
        if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
            let sum = left.checked_add(right);
            return sum.map(Value::from).ok_or_else(|| error("too large"));
        }
        if left.is_number() && right.is_number() {
            return Ok(Value::from(
                f64::try_from(left.clone())? + f64::try_from(right.clone())?,
            ));
        }
        Err(error(format!(
            "a {} and a {} cannot be added",
            left.kind(),
            right.kind()
        )))
    }

    pub(super) fn is_same(&self, left: &Value, right: &Value) -> Outcome<bool> {
        self.charge_shorter(left, right)?;
        match (is_plain(left), is_plain(right)) {
            (true, true) => Ok(left == right),
            (false, false) if left.len() == Some(0) || right.len() == Some(0) => {
                Ok(left.kind() == right.kind() && left.len() == right.len())
            }
            (false, false) => Err(error("lists and maps cannot be compared here")),
            _ => Ok(false),
        }
    }

    fn order(&self, left: &Value, right: &Value) -> Outcome<std::cmp::Ordering> {
        self.charge_shorter(left, right)?;
        let plain = is_plain(left) && is_plain(right);
        let order = plain.then(|| left.partial_cmp(right)).flatten();
        order.ok_or_else(|| error("these have no order"))
    }

    fn charge_shorter(&self, left: &Value, right: &Value) -> Outcome<()> {
        let length = |value: &Value| value.as_str().map_or(0, str::len);
        self.charge(length(left).min(length(right)) + 1)
    }

    pub(super) fn contains(&self, item: &Value, all: &Value) -> Outcome<bool> {
        if let Some(text) = all.as_str() {
            self.charge(text.len() + 1)?;
            let item = self.text(item)?;
            return Ok(text.contains(item.as_ref()));
        }
        if all.is_undefined() || all.is_none() {
            return Ok(false);
        }
        for known in self.items(all)? {
            if is_plain(&known) && is_plain(item) && self.is_same(&known, item)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn slice(&self, value: &Value, from: &Value, to: &Value, step: &Value) -> Outcome {
        let place = |value: &Value| match value.as_i64() {
            Some(place) => Ok(Some(place)),
            None if value.is_none() || value.is_undefined() => Ok(None),
            None => Err(error("a slice goes by whole numbers")),
        };
        let (from, to) = (place(from)?, place(to)?);
        let way = match place(step)? {
            None | Some(1) => Way::Forwards,
            Some(-1) => Way::Backwards,
            Some(_) => return Err(error("a slice goes by steps of 1 or -1")),
        };
        if let Some(text) = value.as_str() {
            self.charge(text.len() * size_of::<char>() + 1)?;
            let letters: Vec<char> = text.chars().collect();
            let cut: String = cut(&letters, from, to, way).into_iter().collect();
            return Ok(Value::from(cut));
        }
        let items = self.items(value)?;
        self.list(cut(&items, from, to, way))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forwards,
    Backwards,
}

/// A slice as Python cuts it.
fn cut<T: Clone>(items: &[T], from: Option<i64>, to: Option<i64>, way: Way) -> Vec<T> {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let (low, high) = match way {
        Way::Forwards => (0, count),
        Way::Backwards => (-1, count - 1),
    };
    let place = |place: Option<i64>, otherwise| {
        let place = place.map(|at| if at < 0 { at.saturating_add(count) } else { at });
        place.map_or(otherwise, |at| at.clamp(low, high))
    };
    let at = |at: i64| items.get(usize::try_from(at).ok()?).cloned();
    match way {
        Way::Forwards => (place(from, low)..place(to, high)).filter_map(at).collect(),
        Way::Backwards => {
            let (last, first) = (place(from, high), place(to, low));
            (first + 1..=last).rev().filter_map(at).collect()
        }
    }
}

/// What kind of thing a value is, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Not there, or none.
    Nothing,
    Truth,
    Number,
    Text,
    List,
    Map,
    /// A function, or bytes.
    Other,
}

impl Shape {
    pub(super) fn of(value: &Value) -> Self {
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => Self::Nothing,
            ValueKind::Bool => Self::Truth,
            ValueKind::Number => Self::Number,
            ValueKind::String => Self::Text,
            ValueKind::Seq | ValueKind::Iterable => Self::List,
            ValueKind::Map => Self::Map,
            ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid | _ => Self::Other,
        }
    }
}

fn is_list(value: &Value) -> bool {
    Shape::of(value) == Shape::List
}

/// Whether a value holds no others.
fn is_plain(value: &Value) -> bool {
    match Shape::of(value) {
        Shape::Nothing | Shape::Truth | Shape::Number | Shape::Text => true,
        Shape::List | Shape::Map | Shape::Other => false,
    }
}

/// The operators, under names that no template can write, and the few functions that it can.
pub(super) fn add(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    add_operators(environment, meter);
    add_functions(environment, meter);
}

fn add_operators(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let mut two = |name: &'static str, run: fn(&Meter, &Value, &Value) -> Outcome| {
        let meter = Arc::clone(meter);
        environment.add_function(name, move |a: Value, b: Value| run(&meter, &a, &b));
    };
    two("+", Meter::sum);
    two("~", Meter::concat);
    two("*", |_, _, _| Err(error("nothing is repeated here")));
    two("< <", |_, _, _| {
        Err(error("comparisons cannot be chained here"))
    });
    two("==", |it, a, b| it.is_same(a, b).map(Value::from));
    two("!=", |it, a, b| {
        it.is_same(a, b).map(|same| Value::from(!same))
    });
    two("<", |it, a, b| {
        it.order(a, b).map(|order| Value::from(order.is_lt()))
    });
    two("<=", |it, a, b| {
        it.order(a, b).map(|order| Value::from(order.is_le()))
    });
    two(">", |it, a, b| {
        it.order(a, b).map(|order| Value::from(order.is_gt()))
    });
    two(">=", |it, a, b| {
        it.order(a, b).map(|order| Value::from(order.is_ge()))
    });
    two("in", |it, a, b| it.contains(a, b).map(Value::from));
    let it = Arc::clone(meter);
    environment.add_function(
        "[:]",
        move |value: Value, from: Value, to: Value, step: Value| {
            it.slice(&value, &from, &to, &step)
        },
    );
    let it = Arc::clone(meter);
    environment.add_function("[]", move |items: Rest<Value>| it.list(items.0));
    let it = Arc::clone(meter);
    environment.add_function("{}", move |pairs: Rest<Value>| it.map(&pairs));
}

fn add_functions(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let it = Arc::clone(meter);
    environment.set_formatter(move |out, _, value| {
        let text = it.text(value)?;
        out.write_str(&text).map_err(Error::from)
    });
    let it = Arc::clone(meter);
    environment.add_function(FUNCTIONS[0], move |what: Value| -> Outcome {
        let said = it.text(&what)?.chars().take(200).collect();
        let _ = it.raised.set(said); // the first counts
        Err(error("the template refused"))
    });
    let it = Arc::clone(meter);
    environment.add_function(FUNCTIONS[1], move |values: Option<Value>| {
        if let Some(values) = &values {
            it.weigh(values, 1)?;
        }
        functions::namespace(values)
    });
    let it = Arc::clone(meter);
    environment.add_function(FUNCTIONS[2], move |first: i64, end: Option<i64>| {
        let (first, end) = end.map_or((0, first), |end| (first, end));
        if end.saturating_sub(first) > MAX_RANGE {
            return Err(error("a range that is too long"));
        }
        it.list((first..end).map(Value::from).collect())
    });
}
