//! Text as JSON, safe inside of a page too.

use std::fmt::{self, Write};

/// A JSON string. What would end a script or begin a tag in a page is escaped, so that the same text may stand in one.
pub(crate) struct Quoted<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escaping(f), "{}", self.0)?;
        f.write_char('"')
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(place) = rest.find(needs_escape) {
            let (plain, tail) = rest.split_at(place);
            self.0.write_str(plain)?;
            let mut letters = tail.chars();
            match letters.next() {
                Some('"') => self.0.write_str("\\\"")?,
                Some('\\') => self.0.write_str("\\\\")?,
                Some('\n') => self.0.write_str("\\n")?,
                Some(letter) => write!(self.0, "\\u{:04x}", u32::from(letter))?,
                None => {}
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

fn needs_escape(letter: char) -> bool {
    matches!(letter, '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}') || letter < ' '
}

/// Text as it may stand between tags.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, Quoted};

    #[test]
    fn nothing_that_is_quoted_ends_a_string_or_a_script() {
        let text = "a\"b\\c\n\u{1}</script><!--&\u{2028}\u{e9}";
        let quoted = Quoted(text).to_string();
        assert_eq!(quoted, "\"a\\\"b\\\\c\\n\\u0001\\u003c/script\\u003e\\u003c!--\\u0026\\u2028\u{e9}\"");
        assert_eq!(Escaped("<b a='1'>&\"").to_string(), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
    }
}
