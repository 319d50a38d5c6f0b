//! Numbers within bounds, as expressions over their digits.
//!
//! A number is sign, whole part and fraction, without exponent and without needless zeros in
//! front. Bounds are compared digit by digit: below the bound's digit, anything may follow; at
//! it, the comparison goes on behind it.

use super::super::expr::Expr;

/// Digits of a fraction: more than any sensor has.
pub(super) const MAX_FRACTION_DIGITS: usize = 9;
/// The largest whole part: up to here, whole numbers are exact in the floating point of every
/// reader.
pub(super) const MAX_WHOLE: u64 = 999_999_999_999_999;

/// A bound, split at its point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    negative: bool,
    whole: u64,
    /// Without zeros at its end.
    fraction: Vec<u8>,
    /// Whether the bound itself is outside.
    strict: bool,
}

impl Bound {
    /// Reads a bound; none if it has more digits than numbers have here.
    pub(super) fn new(number: &serde_json::Number, strict: bool) -> Option<Self> {
        let text = match number.as_f64() {
            Some(value) if number.is_f64() => value.to_string(),
            _ => number.to_string(),
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = whole.parse().ok().filter(|&whole| whole <= MAX_WHOLE)?;
        let fraction = fraction.trim_end_matches('0').as_bytes().to_vec();
        let fits = fraction.len() <= MAX_FRACTION_DIGITS && fraction.iter().all(u8::is_ascii_digit);
        let is_zero = whole == 0 && fraction.is_empty();
        fits.then_some(Self {
            negative: negative && !is_zero,
            whole,
            fraction,
            strict,
        })
    }

    /// Zero and all above, or only what is above.
    fn zero(strict: bool) -> Self {
        Self {
            negative: false,
            whole: 0,
            fraction: Vec::new(),
            strict,
        }
    }

    fn largest() -> Self {
        Self {
            negative: false,
            whole: MAX_WHOLE,
            fraction: vec![b'9'; MAX_FRACTION_DIGITS],
            strict: false,
        }
    }
}

/// Whole numbers from one bound to the other.
pub(super) fn integers(lo: Option<&Bound>, hi: Option<&Bound>) -> Expr {
    by_sign(lo, hi, |lo, hi| {
        let beyond = u64::from(lo.strict || !lo.fraction.is_empty());
        let short = u64::from(hi.strict && hi.fraction.is_empty());
        let last = hi.whole.checked_sub(short);
        last.map_or_else(nothing, |last| whole(lo.whole + beyond, last))
    })
}

/// Numbers from one bound to the other.
pub(super) fn numbers(lo: Option<&Bound>, hi: Option<&Bound>) -> Expr {
    by_sign(lo, hi, |lo, hi| {
        if lo.whole > hi.whole {
            return nothing();
        }
        let exactly = |number: u64| Expr::text(&number.to_string());
        if lo.whole == hi.whole {
            return Expr::Seq(vec![exactly(lo.whole), fraction_between(lo, hi)]);
        }
        let mut all = vec![Expr::Seq(vec![exactly(lo.whole), fraction_from(lo)])];
        if lo.whole + 1 < hi.whole {
            let between = whole(lo.whole + 1, hi.whole - 1);
            all.push(Expr::Seq(vec![between, any_fraction()]));
        }
        all.push(Expr::Seq(vec![exactly(hi.whole), fraction_to(hi)]));
        Expr::Alt(all)
    })
}

/// Those without sign, and behind a minus those whose bounds are mirrored. Zero has no sign.
fn by_sign(
    lo: Option<&Bound>,
    hi: Option<&Bound>,
    magnitudes: impl Fn(&Bound, &Bound) -> Expr,
) -> Expr {
    let mut all = Vec::new();
    if !hi.is_some_and(|hi| hi.negative) {
        let lo = lo.filter(|lo| !lo.negative).cloned();
        let hi = hi.cloned().unwrap_or_else(Bound::largest);
        all.push(magnitudes(&lo.unwrap_or_else(|| Bound::zero(false)), &hi));
    }
    if lo.is_none_or(|lo| lo.negative) {
        let from = hi.filter(|hi| hi.negative).cloned();
        let to = lo.cloned().unwrap_or_else(Bound::largest);
        let below = magnitudes(&from.unwrap_or_else(|| Bound::zero(true)), &to);
        all.push(Expr::Seq(vec![Expr::text("-"), below]));
    }
    Expr::Alt(all)
}

/// What no text is.
fn nothing() -> Expr {
    Expr::Alt(Vec::new())
}

fn digit(lo: u8, hi: u8) -> Expr {
    if lo > hi {
        return nothing();
    }
    Expr::class(&[(char::from(lo), char::from(hi))])
}

fn any_digits(min: usize, max: usize) -> Expr {
    let count = |digits: usize| u32::try_from(digits).expect("digits are few");
    digit(b'0', b'9').times(count(min), Some(count(max)))
}

/// Whole numbers without sign.
fn whole(first: u64, last: u64) -> Expr {
    let mut all = Vec::new();
    let mut from = first;
    while from <= last {
        // As many as have the same number of digits.
        let lo = from.to_string();
        let to = 10_u64.pow(u32::try_from(lo.len()).expect("digits are few")) - 1;
        let hi = to.min(last).to_string();
        all.push(same_length(lo.as_bytes(), hi.as_bytes()));
        from = to + 1;
    }
    Expr::Alt(all)
}

fn same_length(lo: &[u8], hi: &[u8]) -> Expr {
    let (Some((&a, lo_rest)), Some((&b, hi_rest))) = (lo.split_first(), hi.split_first()) else {
        return Expr::empty();
    };
    let left = lo_rest.len();
    let all = |digits: &[u8], same: u8| digits.iter().all(|&digit| digit == same);
    if all(lo_rest, b'0') && all(hi_rest, b'9') {
        return Expr::Seq(vec![digit(a, b), any_digits(left, left)]);
    }
    if a == b {
        return Expr::Seq(vec![digit(a, a), same_length(lo_rest, hi_rest)]);
    }
    Expr::Alt(vec![
        Expr::Seq(vec![digit(a, a), same_length(lo_rest, &vec![b'9'; left])]),
        Expr::Seq(vec![digit(a + 1, b - 1), any_digits(left, left)]),
        Expr::Seq(vec![digit(b, b), same_length(&vec![b'0'; left], hi_rest)]),
    ])
}

fn behind_point(digits: Expr) -> Expr {
    Expr::Seq(vec![Expr::text("."), digits])
}

fn any_fraction() -> Expr {
    behind_point(any_digits(1, MAX_FRACTION_DIGITS)).optional()
}

fn fraction_from(lo: &Bound) -> Expr {
    match (lo.fraction.is_empty(), lo.strict) {
        (true, false) => any_fraction(),
        _ => behind_point(digits_from(&lo.fraction, lo.strict, MAX_FRACTION_DIGITS)),
    }
}

fn fraction_to(hi: &Bound) -> Expr {
    let digits = digits_to(&hi.fraction, hi.strict, MAX_FRACTION_DIGITS, Stop::No);
    match (hi.fraction.is_empty(), hi.strict) {
        (true, true) => nothing(),
        _ => behind_point(digits).optional(),
    }
}

fn fraction_between(lo: &Bound, hi: &Bound) -> Expr {
    let (from, to) = (&lo.fraction, &hi.fraction);
    let left = MAX_FRACTION_DIGITS;
    let behind = behind_point(digits_between(
        from,
        lo.strict,
        to,
        hi.strict,
        left,
        Stop::No,
    ));
    let whole_fits = from.is_empty() && !lo.strict && !(to.is_empty() && hi.strict);
    if !whole_fits {
        return behind;
    }
    Expr::Alt(vec![Expr::empty(), behind])
}

/// Whether a fraction may end before the next digit: not directly behind the point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Yes,
    No,
}

/// Digits that are at least these, or more.
fn digits_from(lo: &[u8], strict: bool, left: usize) -> Expr {
    match (lo.split_first(), left.checked_sub(1)) {
        (None, _) if !strict => any_digits(0, left),
        (_, None) => nothing(),
        (None, Some(rest)) => Expr::Alt(vec![
            Expr::Seq(vec![digit(b'0', b'0'), digits_from(&[], strict, rest)]),
            Expr::Seq(vec![digit(b'1', b'9'), any_digits(0, rest)]),
        ]),
        (Some((&d, lo)), Some(rest)) => Expr::Alt(vec![
            Expr::Seq(vec![digit(d, d), digits_from(lo, strict, rest)]),
            Expr::Seq(vec![digit(d + 1, b'9'), any_digits(0, rest)]),
        ]),
    }
}

/// Digits that are at most these, or less.
fn digits_to(hi: &[u8], strict: bool, left: usize, stop: Stop) -> Expr {
    let mut all = Vec::new();
    if stop == Stop::Yes && !(hi.is_empty() && strict) {
        all.push(Expr::empty());
    }
    if let Some(rest) = left.checked_sub(1) {
        let (&d, hi) = hi.split_first().unwrap_or((&b'0', &[]));
        all.push(Expr::Seq(vec![
            digit(d, d),
            digits_to(hi, strict, rest, Stop::Yes),
        ]));
        all.push(Expr::Seq(vec![digit(b'0', d - 1), any_digits(0, rest)]));
    }
    Expr::Alt(all)
}

fn digits_between(
    lo: &[u8],
    lo_strict: bool,
    hi: &[u8],
    hi_strict: bool,
    left: usize,
    stop: Stop,
) -> Expr {
    if lo.is_empty() && !lo_strict {
        return digits_to(hi, hi_strict, left, stop);
    }
    let Some(rest) = left.checked_sub(1) else {
        return nothing();
    };
    let (&a, lo) = lo.split_first().unwrap_or((&b'0', &[]));
    let (&b, hi) = hi.split_first().unwrap_or((&b'0', &[]));
    if a > b {
        return nothing();
    }
    if a == b {
        let behind = digits_between(lo, lo_strict, hi, hi_strict, rest, Stop::Yes);
        return Expr::Seq(vec![digit(a, a), behind]);
    }
    Expr::Alt(vec![
        Expr::Seq(vec![digit(a, a), digits_from(lo, lo_strict, rest)]),
        Expr::Seq(vec![digit(a + 1, b - 1), any_digits(0, rest)]),
        Expr::Seq(vec![digit(b, b), digits_to(hi, hi_strict, rest, Stop::Yes)]),
    ])
}
