//! Reads scripts. An error names its line, the step, and what would be right.

use std::fmt;

use reactor::sys::KeventFlags;

use super::capability::Capability;
use super::expect::{Expectation, Expected, ExpectedEvent};
use super::probe::WideNotes;
use super::step::{Action, Argument, Call, Change, Only, Script, Step, Term};
use super::verb::{Kind, Parameter, Presence, Verb};
use super::words;
use crate::kernel::Kernel;

/// What is wrong with a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// The line as it stands.
    pub step: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n    {}", self.line, self.message, self.step)
    }
}

impl std::error::Error for ParseError {}

/// Blocks inside of blocks; more is a mistake.
const DEPTH_MAX: usize = 8;

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The first line that is malformed.
    pub fn parse(text: &str) -> Result<Script, ParseError> {
        let mut script = Script::default();
        // The innermost open block is the last; each holds the step that opened it.
        let mut open: Vec<(Step, Vec<Step>)> = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let raw = raw.trim();
            let fail = |message: String| ParseError { line, step: raw.to_owned(), message };
            if raw.is_empty() {
                continue;
            }
            if let Some(comment) =
                raw.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
            {
                if script.title.is_empty() && script.steps.is_empty() {
                    comment.trim().clone_into(&mut script.title);
                }
                continue;
            }
            if raw == "}" {
                let Some((mut step, steps)) = open.pop() else {
                    return Err(fail("a block ends here that never began".to_owned()));
                };
                if let Action::Repeat { body, .. } | Action::Until { body, .. } = &mut step.action {
                    *body = steps;
                }
                open.last_mut().map_or(&mut script.steps, |(_, steps)| steps).push(step);
                continue;
            }
            if header(&mut script, raw).map_err(&fail)? {
                continue;
            }
            let tokens = tokens(raw).map_err(&fail)?;
            let action = action(&tokens).map_err(&fail)?;
            let step = Step { line, action };
            if matches!(step.action, Action::Repeat { .. } | Action::Until { .. }) {
                if open.len() == DEPTH_MAX {
                    return Err(fail(format!("more than {DEPTH_MAX} blocks inside of each other")));
                }
                open.push((step, Vec::new()));
            } else {
                open.last_mut().map_or(&mut script.steps, |(_, steps)| steps).push(step);
            }
        }
        match open.pop() {
            Some((step, _)) => Err(ParseError {
                line: step.line,
                step: step.to_string(),
                message: "this block has no end: a line with `}` is missing".to_owned(),
            }),
            None => Ok(script),
        }
    }
}

/// Lines about the script itself; whether this was one.
fn header(script: &mut Script, line: &str) -> Result<bool, String> {
    if let Some(names) = line.strip_prefix("on ") {
        for name in names.split_whitespace() {
            let known = || Kernel::ALL.map(Kernel::name).join(", ");
            let kernel = Kernel::from_name(name)
                .ok_or_else(|| format!("there is no kernel {name:?}; there are {}", known()))?;
            script.systems.push(kernel);
        }
    } else if let Some(needs) = line.strip_prefix("needs ") {
        for name in needs.split_whitespace() {
            let known = || Capability::ALL.iter().map(|known| known.name()).collect::<Vec<_>>().join(", ");
            let capability = Capability::from_name(name)
                .ok_or_else(|| format!("there is no capability {name:?}; there are {}", known()))?;
            script.needs.push(capability);
        }
    } else if let Some((side, reason)) =
        line.split_once(" only").filter(|(side, _)| ["simulated", "live"].contains(side))
    {
        let reason = reason.strip_prefix(':').map(str::trim).filter(|reason| !reason.is_empty());
        let reason = reason.ok_or_else(|| format!("say why: `{side} only: REASON`"))?.to_owned();
        script.only = Some(if side == "live" { Only::Live(reason) } else { Only::Simulated(reason) });
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Splits a line at blanks, outside of quotes and brackets.
fn tokens(line: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut closing = Vec::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            token.push(c);
            match c {
                '\\' => token.extend(chars.next()),
                '"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => quoted = true,
            '[' => closing.push(']'),
            '{' if chars.peek().is_some() => closing.push('}'),
            _ if closing.last() == Some(&c) => {
                closing.pop();
            }
            '#' if closing.is_empty()
                && token.is_empty()
                && chars.peek().is_none_or(|next| next.is_whitespace()) =>
            {
                break;
            }
            _ if c.is_whitespace() && closing.is_empty() => {
                if !token.is_empty() {
                    tokens.push(std::mem::take(&mut token));
                }
                continue;
            }
            _ => {}
        }
        token.push(c);
    }
    if quoted || !closing.is_empty() {
        return Err("a quote or bracket is not closed".to_owned());
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    Ok(tokens)
}

fn action(tokens: &[String]) -> Result<Action, String> {
    let first = tokens.first().map_or("", String::as_str);
    match first {
        "repeat" => {
            let [_, rounds, brace] = tokens else { return Err("write `repeat N {`".to_owned()) };
            let rounds = words::parse_number(rounds).and_then(|rounds| u64::try_from(rounds).ok());
            let rounds = rounds.filter(|_| brace == "{").ok_or("write `repeat N {`")?;
            Ok(Action::Repeat { rounds, body: Vec::new() })
        }
        "until" => {
            let Some(("{", inner)) = tokens[1..].split_last().map(|(last, inner)| (last.as_str(), inner))
            else {
                return Err("write `until CALL -> EXPECTATION {`".to_owned());
            };
            let (call, expectation) = call_and_expectation(inner)?;
            let expectation =
                expectation.ok_or("`until` needs an expectation: `until CALL -> EXPECTATION {`")?;
            Ok(Action::Until { call, expectation, body: Vec::new() })
        }
        "count" | "sum" => {
            let name = tokens.get(1).filter(|name| words::is_name(name));
            let name = name.ok_or("a name for the number is missing; names begin with a capital")?.clone();
            let (call, expectation) = call_and_expectation(&tokens[2..])?;
            match (first, expectation) {
                ("sum", None) => Ok(Action::Sum { name, call }),
                ("sum", Some(_)) => Err("`sum` takes no expectation".to_owned()),
                (_, Some(expectation)) => Ok(Action::Count { name, call, expectation }),
                (_, None) => Err("`count` needs an expectation: `count NAME CALL -> EXPECTATION`".to_owned()),
            }
        }
        "check" => {
            const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
            let place = tokens.iter().position(|token| COMPARISONS.contains(&token.as_str()));
            let place =
                place.ok_or_else(|| format!("a comparison is missing: {}", COMPARISONS.join(", ")))?;
            Ok(Action::Check {
                left: terms(&tokens[1..place])?,
                comparison: tokens[place].clone(),
                right: terms(&tokens[place + 1..])?,
            })
        }
        _ => call_step(tokens),
    }
}

fn terms(tokens: &[String]) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    let mut operator = '+';
    for (index, token) in tokens.iter().enumerate() {
        if index % 2 == 1 {
            operator = match token.as_str() {
                "+" => '+',
                "-" => '-',
                "*" => '*',
                "/" => '/',
                _ => return Err(format!("{token:?} is no operator; there are + - * /")),
            };
            continue;
        }
        let number = number(token).ok_or_else(|| format!("{token:?} is neither a number nor a name"))?;
        terms.push(Term { operator, number });
    }
    if tokens.len().is_multiple_of(2) { Err("a term is missing".to_owned()) } else { Ok(terms) }
}

fn call_step(tokens: &[String]) -> Result<Action, String> {
    let (names, rest) = match tokens.iter().position(|token| token == "=") {
        Some(place) => (&tokens[..place], &tokens[place + 1..]),
        None => (&tokens[..0], tokens),
    };
    if let Some(bad) = names.iter().find(|name| !words::is_name(name)) {
        return Err(format!("{bad:?} is no name: letters, digits and _, the first a capital"));
    }
    let (rest, within) = match rest.iter().position(|token| token == "within") {
        Some(place) => {
            let span = rest.get(place + 1).and_then(|span| span.split_once(".."));
            let bound = |text: &str| words::parse_time(text)?.and_then(|ns| u64::try_from(ns).ok());
            let span = span.and_then(|(low, high)| Some((bound(low)?, bound(high)?)));
            let span = span.filter(|(low, high)| low <= high && place + 2 == rest.len());
            (&rest[..place], Some(span.ok_or("write `within LOW..HIGH`, such as `within 900ms..1300ms`")?))
        }
        None => (rest, None),
    };
    let (call, expectation) = call_and_expectation(rest)?;
    let most = match call.verb {
        Verb::Pair | Verb::Socketpair | Verb::Pipe => 2,
        _ => 1,
    };
    if names.len() > most {
        return Err(format!("{} answers {most} thing(s), here are {} names", call.verb, names.len()));
    }
    let expectation = expectation.unwrap_or_else(Expectation::ok);
    Ok(Action::Call { names: names.to_vec(), call, expectation, within })
}

fn call_and_expectation(tokens: &[String]) -> Result<(Call, Option<Expectation>), String> {
    match tokens.iter().position(|token| token == "->") {
        Some(place) => Ok((call(&tokens[..place])?, Some(expectation(&tokens[place + 1..])?))),
        None => Ok((call(tokens)?, None)),
    }
}

fn call(tokens: &[String]) -> Result<Call, String> {
    let Some((name, mut given)) = tokens.split_first() else { return Err("a verb is missing".to_owned()) };
    let verb = Verb::from_name(name).ok_or_else(|| unknown_verb(name))?;
    let mut arguments = Vec::new();
    for parameter in verb.parameters() {
        loop {
            let read = given.first().and_then(|token| argument(parameter, token));
            match (read, parameter.presence) {
                (Some(read), presence) => {
                    arguments.push(read);
                    given = &given[1..];
                    if presence == Presence::Repeated {
                        continue;
                    }
                }
                (None, Presence::Required) => {
                    let found = given.first().map_or("nothing".to_owned(), |token| format!("{token:?}"));
                    let Parameter { name, kind, .. } = parameter;
                    return Err(format!(
                        "{name} must be {}, here is {found}; write `{}`",
                        written(*kind),
                        verb.usage()
                    ));
                }
                (None, Presence::Optional) => arguments.push(Argument::Absent),
                (None, Presence::Repeated) => {}
            }
            break;
        }
    }
    match given.first() {
        Some(extra) => Err(format!("{extra:?} is too much here; write `{}`", verb.usage())),
        None => {
            while arguments.last() == Some(&Argument::Absent) {
                arguments.pop();
            }
            Ok(Call { verb, arguments })
        }
    }
}

fn unknown_verb(name: &str) -> String {
    let near: Vec<&str> = Verb::ALL
        .iter()
        .map(|verb| verb.name())
        .filter(|known| known.starts_with(name.get(..2).unwrap_or(name)))
        .collect();
    let near = if near.is_empty() { Verb::ALL.iter().map(|verb| verb.name()).collect() } else { near };
    format!("there is no verb {name:?}; there are {}", near.join(", "))
}

fn written(kind: Kind) -> String {
    match kind {
        Kind::Descriptor => "the name of a descriptor, or # and its number".to_owned(),
        Kind::Address => "an address: 127.0.0.1:80, host:80, or @NAME".to_owned(),
        Kind::Number => "a number, or the name of one".to_owned(),
        Kind::Bytes => "bytes: \"abc\", or 5000x".to_owned(),
        Kind::Time => "a time: 50ms, 3s, 20us, forever".to_owned(),
        Kind::Mask => "event bits: IN|OUT|ET, or 0".to_owned(),
        Kind::Word([]) => "a word".to_owned(),
        Kind::Word(allowed) => format!("one of {}", allowed.join(", ")),
        Kind::Entries => "a list: [A:IN, B:OUT]".to_owned(),
        Kind::Descriptors => "a list: [A, B]".to_owned(),
        Kind::Changes => "a change list: [READ A ADD|CLEAR udata=1, USER 7 ADD]".to_owned(),
        Kind::Ticket => "the name of a wait".to_owned(),
    }
}

fn descriptor(token: &str) -> Option<Argument> {
    match token.strip_prefix('#') {
        Some(number) => number.parse().ok().map(Argument::RawDescriptor),
        None => words::is_name(token).then(|| Argument::name(token)),
    }
}

fn number(token: &str) -> Option<Argument> {
    words::parse_number(token)
        .map(Argument::Number)
        .or_else(|| words::is_name(token).then(|| Argument::name(token)))
}

/// The argument, if it is written as the parameter wants it.
fn argument(parameter: &Parameter, token: &str) -> Option<Argument> {
    match parameter.kind {
        Kind::Descriptor => descriptor(token),
        Kind::Ticket => words::is_name(token).then(|| Argument::name(token)),
        Kind::Number => number(token),
        Kind::Address => {
            if let Some(name) = token.strip_prefix('@') {
                return words::is_name(name).then(|| Argument::AddressOf(name.to_owned()));
            }
            if let Some(port) = token.strip_prefix("host:") {
                return port.parse().ok().map(Argument::HostPort);
            }
            token.parse().ok().map(Argument::Address)
        }
        Kind::Bytes => match token.strip_suffix('x') {
            Some(count) => {
                words::parse_number(count).and_then(|count| u64::try_from(count).ok()).map(Argument::Filling)
            }
            None => words::parse_quoted(token).map(Argument::Text),
        },
        Kind::Time => words::parse_time(token).map(Argument::Time),
        Kind::Mask => words::parse_mask(token).map(Argument::Mask),
        Kind::Word([]) => (!words::is_name(token)).then(|| Argument::word(token)),
        Kind::Word(allowed) => allowed.contains(&token).then(|| Argument::word(token)),
        Kind::Entries => items(token, '[', ']')?
            .into_iter()
            .map(|item| {
                let (fd, bits) = item.split_once(':')?;
                Some((descriptor(fd)?, words::parse_mask(bits)?))
            })
            .collect::<Option<_>>()
            .map(Argument::Entries),
        Kind::Descriptors => {
            let names = items(token, '[', ']')?.into_iter().map(descriptor).collect::<Option<_>>();
            names.map(Argument::Descriptors)
        }
        Kind::Changes => {
            items(token, '[', ']')?.into_iter().map(change).collect::<Option<_>>().map(Argument::Changes)
        }
    }
}

/// What stands between brackets, split at commas.
fn items(token: &str, open: char, close: char) -> Option<Vec<&str>> {
    let inner = token.strip_prefix(open)?.strip_suffix(close)?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    Some(inner.split(',').map(str::trim).collect())
}

fn change(item: &str) -> Option<Change> {
    let mut parts = item.split_whitespace();
    let filter = words::parse_filter(parts.next()?)?;
    let ident = parts.next()?;
    let ident = descriptor(ident).or_else(|| number(ident))?;
    let mut change =
        Change { filter, ident, flags: KeventFlags::empty(), notes: WideNotes::empty(), data: 0, udata: 0 };
    for part in parts {
        if let Some(notes) = part.strip_prefix("notes=") {
            change.notes = words::parse_notes(notes)?;
        } else if let Some(data) = part.strip_prefix("data=") {
            change.data = words::parse_number(data)?;
        } else if let Some(udata) = part.strip_prefix("udata=") {
            change.udata = u64::try_from(words::parse_number(udata)?).ok()?;
        } else {
            change.flags |= words::parse_kevent_flags(part)?;
        }
    }
    Some(change)
}

fn expectation(tokens: &[String]) -> Result<Expectation, String> {
    let mut alternatives = Vec::new();
    for alternative in tokens.split(|token| token == "or") {
        let expected = match alternative {
            [token] => expected(token),
            [is, word] if is == "is" => Some(Expected::Word(word.clone())),
            _ => None,
        };
        let text = alternative.join(" ");
        let expected = expected.ok_or_else(|| {
            format!(
                "{text:?} is no expectation: ok, an error name, 5, 3..7, >=1000, \"abc\", is none, =A, IN|OUT, [A:IN], {{A:IN}}"
            )
        })?;
        alternatives.push(expected);
    }
    Ok(Expectation { alternatives })
}

fn expected(token: &str) -> Option<Expected> {
    match token {
        "ok" => return Some(Expected::Ok),
        "any" => return Some(Expected::Any),
        _ => {}
    }
    if let Some(errno) = words::parse_errno(token) {
        return Some(Expected::Error(errno));
    }
    if let Some(name) = token.strip_prefix('=') {
        return words::is_name(name).then(|| Expected::NumberOf(name.to_owned()));
    }
    if token.starts_with('"') {
        return words::parse_quoted(token).map(Expected::Bytes);
    }
    if let Some(low) = token.strip_prefix(">=") {
        return Some(Expected::Number { low: words::parse_number(low)?, high: i64::MAX });
    }
    if let Some(high) = token.strip_prefix('<') {
        return Some(Expected::Number { low: i64::MIN, high: words::parse_number(high)?.checked_sub(1)? });
    }
    if let Some((low, high)) = token.split_once("..") {
        return Some(Expected::Number { low: words::parse_number(low)?, high: words::parse_number(high)? });
    }
    if let Some(number) = words::parse_number(token) {
        return Some(Expected::Number { low: number, high: number });
    }
    let ordered = token.starts_with('[');
    let (open, close) = if ordered { ('[', ']') } else { ('{', '}') };
    if token.starts_with(open) {
        let events = items(token, open, close)?.into_iter().map(expected_event).collect::<Option<_>>()?;
        return Some(Expected::Events { ordered, events });
    }
    words::parse_mask(token).map(Expected::Mask)
}

fn expected_event(item: &str) -> Option<(String, ExpectedEvent)> {
    let mut parts = item.split_whitespace();
    let first = parts.next()?;
    if let Some((name, bits)) = first.split_once(':') {
        if parts.next().is_some() {
            return None;
        }
        if let Some(side @ ('r' | 'w' | 'x')) = single(name) {
            return Some((reported(bits)?, ExpectedEvent::Side(side)));
        }
        return Some((reported(name)?, ExpectedEvent::Bits(words::parse_mask(bits)?)));
    }
    let name = reported(parts.next()?)?;
    if let "RECEIPT" | "ERROR" = first {
        let error = if first == "ERROR" { Some(words::parse_errno(parts.next()?)?) } else { None };
        let flags = parts.next().map(|part| words::parse_kevent_flags(part.strip_prefix("flags=")?));
        let flags = if let Some(flags) = flags { Some(flags?) } else { None };
        return Some((name, ExpectedEvent::Receipt { error, flags }));
    }
    let filter = words::parse_filter(first)?;
    let (mut data, mut udata, mut fflags, mut flags) = (None, None, None, None);
    let (mut eof, mut error) = (false, None);
    for part in parts {
        if let Some(number) = part.strip_prefix("data=") {
            data = Some(words::parse_number(number)?);
        } else if let Some(number) = part.strip_prefix("udata=") {
            udata = Some(u64::try_from(words::parse_number(number)?).ok()?);
        } else if let Some(number) = part.strip_prefix("fflags=") {
            fflags = Some(u32::try_from(words::parse_number(number)?).ok()?);
        } else if let Some(names) = part.strip_prefix("flags=") {
            flags = Some(words::parse_kevent_flags(names)?);
        } else if part == "EOF" {
            eof = true;
        } else {
            error = Some(words::parse_errno(part)?);
        }
    }
    Some((name, ExpectedEvent::Knote { filter, data, udata, fflags, flags, eof, error }))
}

/// What a report can be about: a descriptor by its name or number, or the word that it was registered with.
fn reported(text: &str) -> Option<String> {
    let known = descriptor(text).is_some() || words::parse_number(text).is_some();
    known.then(|| text.to_owned())
}

fn single(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = r#"# T0: everything that can be written
on linux macos
needs netns
simulated only: there is no such machine
L = listener 4
A B = pair 4096 64000
N = fill A 1000 -> >=1
send A "a\"b\x00" signal -> 4
send A 5000x dontwait -> 1..5000 or EAGAIN
recv B 100 peek waitall -> "abc" or ECONNRESET or <10
connect A @L -> EINPROGRESS
bind A 127.0.0.1:80 -> EINVAL
bind A host:0 -> EINVAL
add #7 A IN|OUT|ET data=9 -> EBADF
wait E 2 50ms -> [A:IN|OUT, 9:HUP] within 40ms..1s
wait E -> {B:OUT}
bits A -> IN|RDHUP
error A -> is none
D = dup A -> =B
poll [A:IN|OUT, #-1:0] forever -> []
select [A] [B, A] [] 0ms -> [r:A, w:B]
kevent K [READ A ADD|CLEAR udata=1, USER 7 ADD notes=FFCOPY|TRIGGER|0x3, TIMER 1 ADD data=50] 8 1us -> [READ A data=5 EOF ECONNRESET, ERROR A ENOENT, RECEIPT A flags=ADD|RECEIPT, USER 7 fflags=0x3 flags=CLEAR]
arm T -5ms 10ms absolute
repeat 3 {
    count X recv A 1 -> 1
    until send A 1x -> EAGAIN {
        sum Y recv B 1000
    }
}
check X + 2 * Y >= N - 1
"#;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let script = Script::parse(EVERYTHING).unwrap();
        assert_eq!(script.to_string(), EVERYTHING);
        let again = Script::parse(&script.to_string()).unwrap();
        assert_eq!(again, script);
    }

    fn message(text: &str) -> String {
        Script::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_malformed_script_names_its_line_and_what_is_right() {
        assert!(
            message("# t\n\nconect A @L")
                .starts_with("line 3: there is no verb \"conect\"; there are connect")
        );
        assert!(message("connect A").contains("address must be an address"), "{}", message("connect A"));
        assert!(message("connect A @L now").contains("\"now\" is too much"));
        assert!(message("recv A 5 -> EWRONG").contains("is no expectation"));
        assert!(message("on plan9").contains("there are linux, freebsd, macos"));
        assert!(message("repeat 3 {\nclose A").contains("has no end"));
        assert!(message("}").contains("never began"));
        assert!(message("send A \"abc").contains("not closed"));
        assert!(message("live only").contains("say why"));
        assert!(message("a = socket").contains("the first a capital"));
        assert!(message("A B = socket").contains("answers 1 thing"));
        assert!(message("wait E within 5ms").contains("within LOW..HIGH"));
        assert!(message("check 1 + 1").contains("a comparison is missing"));
    }
}
