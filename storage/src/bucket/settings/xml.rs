//! XML as a small tree, in which each element knows where it stands in the document, so that a document can be changed
//! in one place and stay as it is everywhere else.
//!
//! Deliberately absent: attributes, namespaces (names are local names), entities but XML's own five.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// Elements within elements; documents of settings have six levels.
const DEEPEST: usize = 32;

/// An element and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// Without a namespace's prefix.
    pub(super) name: String,
    /// The namespace's prefix with its colon, or nothing.
    pub(super) name_prefix: String,
    /// Its own text, without that of the elements in it, and without white space around it.
    pub(super) text: String,
    pub(super) children: Vec<Self>,
    /// From its `<` to behind its `>`, in bytes of the document.
    pub(super) span: Range<usize>,
    /// Where its end tag begins; `None` of one that has none (`<name/>`).
    pub(super) end_tag: Option<usize>,
}

impl Element {
    /// The first element of that name in this one.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of that element in this one.
    pub(super) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

/// The document's one element, or why the document isn't XML.
pub(super) fn parse(document: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(document);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let begin = position(&reader);
        let event = reader.read_event().map_err(|error| error.to_string())?;
        let end = position(&reader);
        match event {
            Event::Start(tag) | Event::Empty(tag) if open.len() == DEEPEST => {
                return Err(format!("{} is too deep", String::from_utf8_lossy(tag.name().as_ref())));
            }
            Event::Start(tag) => open.push(element(tag.name().as_ref(), begin..end)?),
            Event::Empty(tag) => close(element(tag.name().as_ref(), begin..end)?, &mut open, &mut root)?,
            Event::End(_) => {
                let mut ended = open.pop().ok_or("an element ends that did not begin")?;
                ended.span.end = end;
                ended.end_tag = Some(begin);
                ended.text = ended.text.trim().to_owned();
                close(ended, &mut open, &mut root)?;
            }
            Event::Text(text) => add(&mut open, &text.xml10_content().map_err(|error| error.to_string())?)?,
            Event::CData(text) => add(&mut open, &text.xml10_content().map_err(|error| error.to_string())?)?,
            Event::GeneralRef(reference) => add(&mut open, &resolved(&reference)?)?,
            Event::Eof if open.is_empty() => return root.ok_or_else(|| "there is no element".to_owned()),
            Event::Eof => return Err("it ends within an element".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).expect("a position in a document in memory")
}

fn element(qualified: &[u8], span: Range<usize>) -> Result<Element, String> {
    let qualified = std::str::from_utf8(qualified).map_err(|error| error.to_string())?;
    let (prefix, name) = qualified.rsplit_once(':').unwrap_or(("", qualified));
    let name_prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}:") };
    let name = name.to_owned();
    Ok(Element { name, name_prefix, text: String::new(), children: Vec::new(), span, end_tag: None })
}

fn close(ended: Element, open: &mut [Element], root: &mut Option<Element>) -> Result<(), String> {
    match open.last_mut() {
        Some(parent) => parent.children.push(ended),
        None if root.is_some() => return Err("there is more than one element".to_owned()),
        None => *root = Some(ended),
    }
    Ok(())
}

fn add(open: &mut [Element], text: &str) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("there is text outside of the element".to_owned()),
    }
    Ok(())
}

fn resolved(reference: &BytesRef<'_>) -> Result<String, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character.to_string());
    }
    let name = reference.decode().map_err(|error| error.to_string())?;
    resolve_predefined_entity(&name)
        .map(str::to_owned)
        .ok_or_else(|| format!("the entity {name} isn't known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_know_their_text_and_their_place() {
        let document = "<?xml version=\"1.0\"?>\n<a xmlns=\"x\"> <b>1 &amp; &#50;</b><n:c/><b><![CDATA[<3>]]></b>\n</a>\n";
        let root = parse(document).expect("parses");
        assert_eq!((root.name.as_str(), root.text.as_str(), root.children.len()), ("a", "", 3));
        assert_eq!(root.child_text("b"), Some("1 & 2"));
        assert_eq!(root.children[2].text, "<3>");
        assert_eq!((root.children[1].name_prefix.as_str(), root.children[1].end_tag), ("n:", None));
        assert_eq!(&document[root.children[0].span.clone()], "<b>1 &amp; &#50;</b>");
        assert_eq!(&document[root.children[1].span.clone()], "<n:c/>");
        assert_eq!(&document[root.end_tag.expect("a tag")..root.span.end], "</a>");
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        let deep = "<a>".repeat(40);
        for document in [
            "",
            "a",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>b",
            "<a>&b;</a>",
            "<a>&#xfffffff;</a>",
            &deep,
        ] {
            parse(document).expect_err(document);
        }
    }
}
