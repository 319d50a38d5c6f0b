//! A GGUF file made by hand: as small as one can be, and as wrong as a test needs it.

/// The numbers of the format's kinds that tests write.
const U32: u32 = 4;
const TEXT: u32 = 8;
const LIST: u32 = 9;

/// A file under construction.
#[derive(Clone, Debug)]
pub(crate) struct TinyGguf {
    pub(crate) version: u32,
    pub(crate) pairs: Vec<(String, Vec<u8>)>,
    /// Name, shape, kind, offset.
    pub(crate) tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub(crate) data: Vec<u8>,
}

impl TinyGguf {
    /// A network with one tensor, a tokenizer and `ChatML`'s markers.
    pub(crate) fn new(architecture: &str) -> Self {
        let own = |key: &str| format!("{architecture}.{key}");
        Self {
            version: 3,
            pairs: Vec::new(),
            tensors: vec![("token_embd.weight".into(), vec![32, 4], 0, 0)],
            data: vec![0; 32 * 4 * 4],
        }
        .text("general.architecture", architecture)
        .text("general.name", "Tiny Thing")
        .number("general.file_type", 7)
        .number(&own("context_length"), 1024)
        .number(&own("embedding_length"), 32)
        .number(&own("block_count"), 2)
        .number(&own("attention.head_count"), 4)
        .number(&own("attention.head_count_kv"), 2)
        .text("tokenizer.ggml.model", "gpt2")
        .texts(
            "tokenizer.ggml.tokens",
            &["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a"],
        )
        .number("tokenizer.ggml.eos_token_id", 2)
        .text(
            "tokenizer.chat_template",
            "{% for m in messages %}<|im_start|>{{ m.role }}…{% endfor %}",
        )
    }

    /// Sets a pair of any kind; one with the same key is replaced.
    pub(crate) fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let bytes = [&kind.to_le_bytes(), value].concat();
        match self.pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = bytes,
            None => self.pairs.push((key.into(), bytes)),
        }
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.pairs.retain(|(known, _)| known != key);
        self
    }

    pub(crate) fn number(self, key: &str, value: u32) -> Self {
        self.pair(key, U32, &value.to_le_bytes())
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        let value = text(value);
        self.pair(key, TEXT, &value)
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        let value = list(TEXT, values.len() as u64, &items);
        self.pair(key, LIST, &value)
    }

    pub(crate) fn numbers(self, key: &str, values: &[u32]) -> Self {
        let items: Vec<u8> = (values.iter())
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let value = list(U32, values.len() as u64, &items);
        self.pair(key, LIST, &value)
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        for (name, shape, kind, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
            bytes.extend(shape.iter().flat_map(|side| side.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}

/// A list's own kind and count, then its items.
pub(crate) fn list(kind: u32, count: u64, items: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
}
