//! Tokens and text: Whisper's vocabulary, its special tokens. Plain data; any thread.
//!
//! The vocabulary is a file of our own recipe (`models/recipes/whisper_onnx.py`): lines `key value...` in ASCII, a NUL byte,
//! then for each token in order of its id one byte with its length, and its bytes. Special tokens have length 0.

use super::transcriber::Token;
use crate::{InferenceError, manifest::WHISPER99};

const FORMAT: &str = "whisper-vocabulary-1";
const FILE: &str = "vocabulary.bin";

/// A Whisper vocabulary.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// Token t is `bytes[ends[t - 1]..ends[t]]`.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Knows several languages and can translate.
    pub(crate) multilingual: bool,
    /// End of text. Every smaller id is text.
    pub(crate) eot: Token,
    /// Start of the transcript.
    pub(crate) sot: Token,
    pub(crate) translate: Token,
    pub(crate) transcribe: Token,
    pub(crate) no_speech: Token,
    pub(crate) no_timestamps: Token,
    languages: Vec<(&'static str, Token)>,
    /// Never chosen: what is not speech.
    pub(crate) suppress: Vec<Token>,
    /// Not chosen first.
    pub(crate) suppress_begin: Vec<Token>,
}

impl Tokenizer {
    /// Reads the file. `model` is only for errors.
    ///
    /// # Errors
    /// [`InferenceError::WrongTensor`] says what is missing or wrong.
    pub(crate) fn read(model: &str, file: &[u8]) -> Result<Self, InferenceError> {
        let wrong = |expected: &str, found: String| InferenceError::WrongTensor {
            name: model.to_owned(),
            what: FILE.into(),
            expected: expected.to_owned(),
            found,
        };
        let no_head = || wrong(FORMAT, format!("{} bytes that do not begin so", file.len()));
        let end = file.iter().take(16_384).position(|b| *b == 0).ok_or_else(no_head)?;
        let head = std::str::from_utf8(&file[..end]).map_err(|_| no_head())?;
        let values = |key: &str| {
            let line = head.lines().find_map(|l| l.strip_prefix(key).and_then(|l| l.strip_prefix(' ')));
            line.ok_or_else(|| wrong(&format!("a line `{key} ...`"), "none".into()))
        };
        let found = values("format").map_err(|_| no_head())?;
        if found != FORMAT {
            return Err(wrong(FORMAT, found.to_owned()));
        }
        let (mut bytes, mut ends, mut rest) = (Vec::with_capacity(file.len()), Vec::new(), &file[end + 1..]);
        while let [length, after @ ..] = rest {
            let (token, after) = after
                .split_at_checked(usize::from(*length))
                .ok_or_else(|| wrong("a whole file", format!("an end within token {}", ends.len())))?;
            bytes.extend_from_slice(token);
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            rest = after;
        }
        let id = |key: &str, word: &str| match word.parse::<Token>() {
            Ok(id) if (id as usize) < ends.len() => Ok(id),
            _ => Err(wrong(&format!("`{key}` with ids below {}", ends.len()), word.to_owned())),
        };
        let one = |key: &str| id(key, values(key)?);
        let several =
            |key: &str| values(key)?.split_whitespace().map(|word| id(key, word)).collect::<Result<Vec<_>, _>>();
        let language = |word: &str| {
            let (code, token) = word.split_once('=').ok_or_else(|| wrong("`languages` code=id", word.to_owned()))?;
            Ok((WHISPER99.iter().copied().find(|known| *known == code), id("languages", token)?))
        };
        let languages =
            values("languages")?.split_whitespace().map(language).collect::<Result<Vec<_>, InferenceError>>()?;
        let languages = languages.into_iter().filter_map(|(code, id)| code.map(|code| (code, id))).collect();
        Ok(Self {
            multilingual: values("multilingual")? == "1",
            eot: one("eot")?,
            sot: one("sot")?,
            translate: one("translate")?,
            transcribe: one("transcribe")?,
            no_speech: one("no_speech")?,
            no_timestamps: one("no_timestamps")?,
            languages,
            suppress: several("suppress")?,
            suppress_begin: several("suppress_begin")?,
            bytes,
            ends,
        })
    }

    /// How many tokens there are, special ones included.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether a token is text.
    pub(crate) fn is_text(&self, token: Token) -> bool {
        token < self.eot
    }

    /// The languages (ISO 639-1) with their tokens.
    pub(crate) fn languages(&self) -> &[(&'static str, Token)] {
        &self.languages
    }

    /// A token's bytes: perhaps only a part of a character. Nothing for special tokens and unknown ids.
    pub(crate) fn bytes(&self, token: Token) -> &[u8] {
        let token = token as usize;
        let Some(&end) = self.ends.get(token) else { return &[] };
        let begin = if token == 0 { 0 } else { self.ends[token - 1] };
        &self.bytes[begin as usize..end as usize]
    }

    /// The text of these tokens, blanks around it included. Broken characters become U+FFFD.
    pub(crate) fn text(&self, tokens: &[Token]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| self.bytes(*t)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::test_media::VOCABULARY;

    fn tiny() -> Tokenizer {
        Tokenizer::read("test", VOCABULARY).expect("the vocabulary in models/")
    }

    /// Greedy longest match: not how the model was trained to split, but always a way to write the text.
    fn tokens_of(tokenizer: &Tokenizer, text: &str) -> Vec<Token> {
        let (mut tokens, mut rest) = (Vec::new(), text.as_bytes());
        while !rest.is_empty() {
            let token = (0..tokenizer.eot)
                .filter(|t| !tokenizer.bytes(*t).is_empty() && rest.starts_with(tokenizer.bytes(*t)))
                .max_by_key(|t| tokenizer.bytes(*t).len())
                .expect("every byte is a token");
            tokens.push(token);
            rest = &rest[tokenizer.bytes(token).len()..];
        }
        tokens
    }

    #[test]
    fn special_tokens_are_those_of_the_model() {
        let tokenizer = tiny();
        assert_eq!(tokenizer.len(), 51_864);
        assert!(!tokenizer.multilingual);
        let found = [tokenizer.eot, tokenizer.sot, tokenizer.translate, tokenizer.transcribe];
        assert_eq!(found, [50_256, 50_257, 50_357, 50_358]);
        assert_eq!([tokenizer.no_speech, tokenizer.no_timestamps], [50_361, 50_362]);
        assert_eq!(tokenizer.suppress_begin, [220, 50_256]);
        assert_eq!(tokenizer.languages(), [("en", 50_258)]);
        assert!(tokenizer.bytes(50_257).is_empty() && tokenizer.bytes(99_999).is_empty());
        // "[" and " (" begin notes on what is no speech.
        assert!(["[", " ("].iter().all(|t| tokenizer.suppress.contains(&tokens_of(&tokenizer, t)[0])));
    }

    #[test]
    fn text_survives_the_way_through_tokens() {
        let tokenizer = tiny();
        for text in ["", " And so, my fellow Americans:", " naïve café 東京 😀", "\n\t x"] {
            assert_eq!(tokenizer.text(&tokens_of(&tokenizer, text)), text);
        }
        let half = &tokens_of(&tokenizer, "😀")[..1];
        assert!(tokenizer.text(half).chars().all(|c| c == char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn other_files_are_refused() {
        let check = |file: &[u8], expected: &str| {
            let error = Tokenizer::read("whisper-x", file).expect_err("refused").to_string();
            assert!(error.contains("whisper-x") && error.contains(FILE) && error.contains(expected), "{error}");
        };
        check(b"", "0 bytes");
        check(b"format whisper-vocabulary-9\n\0", "found whisper-vocabulary-9");
        check(b"format whisper-vocabulary-1\n\0\x01a", "a line `languages ...`");
        check(&VOCABULARY[..VOCABULARY.len() - 1610], "an end within token 50255");
        let text = b"format whisper-vocabulary-1\nlanguages en=7\n\0\x01a\x01b";
        check(text, "ids below 2");
    }
}
