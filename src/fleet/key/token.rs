//! Signing elsewhere, by a command: a PKCS#11 token, a signing service, a machine behind a door.
//!
//! The command gets the bytes to sign as its standard input, and writes the signature to its
//! standard output: raw or in hexadecimal, for ECDSA as DER or as r and s beside each other, which
//! is what tokens give. What verifies against the public key is taken; nothing is believed.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::ota::tuf::{Key, unhex};

/// Bytes that a signer may write: a signature in hexadecimal, and remarks.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;

/// Has a command sign.
pub(super) fn sign(command: &[String], key: &Key, payload: &[u8]) -> Result<Vec<u8>, String> {
    let output = output(command, payload)?;
    forms(&output)
        .into_iter()
        .find(|signature| key.verifies(payload, signature))
        .ok_or_else(|| {
            format!(
                "{}: what it wrote ({} bytes) is no signature of this key",
                named(command),
                output.len()
            )
        })
}

/// The program alone: its arguments may have a PIN among them.
fn named(command: &[String]) -> String {
    let program = command.first().map_or("", String::as_str);
    format!("the command that signs ({program} …)")
}

fn output(command: &[String], payload: &[u8]) -> Result<Vec<u8>, String> {
    let (program, arguments) = command.split_first().ok_or("an empty command")?;
    let said = |what: &dyn std::fmt::Display| format!("{}: {what}", named(command));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn() // its remarks, and its questions for a PIN, are for whoever sits there
        .map_err(|error| said(&error))?;
    let fed = child.stdin.take().map(|mut input| input.write_all(payload));
    let mut output = Vec::new();
    let read = child
        .stdout
        .take()
        .map(|pipe| pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut output));
    let status = child.wait().map_err(|error| said(&error))?;
    if !status.success() {
        return Err(said(&status));
    }
    // One that needs no input (it has its own copy) may have closed the pipe.
    drop(fed);
    if let Some(Err(error)) = read {
        return Err(said(&error));
    }
    Ok(output)
}

/// What the output could mean: as it is, from hexadecimal, and each as r and s.
fn forms(output: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(output);
    let text: String = text
        .chars()
        .filter(|sign| !sign.is_whitespace() && *sign != ':')
        .collect();
    let mut forms = vec![output.to_vec()];
    forms.extend(unhex(&text));
    let pairs: Vec<_> = forms.iter().filter_map(|form| der(form)).collect();
    forms.extend(pairs);
    forms
}

/// An ECDSA signature in DER, from r and s beside each other.
fn der(pair: &[u8]) -> Option<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    // P-256 and P-384.
    if !matches!(pair.len(), 64 | 96) {
        return None;
    }
    let (r, s) = pair.split_at(pair.len() / 2);
    let inside = [integer(r), integer(s)].concat();
    let length = u8::try_from(inside.len()).ok().filter(|it| *it < 0x80)?;
    Some([vec![SEQUENCE, length], inside].concat())
}

/// A positive integer in DER: without needless zeros, and with one where the first bit is set.
fn integer(bytes: &[u8]) -> Vec<u8> {
    const INTEGER: u8 = 2;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = &bytes[zeros.min(bytes.len() - 1)..];
    let mut content = Vec::new();
    if significant[0] & 0x80 != 0 {
        content.push(0);
    }
    content.extend(significant);
    let length = u8::try_from(content.len()).expect("half a signature has 49 bytes at most");
    [vec![INTEGER, length], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::tuf::hex;
    use crate::ota::tuf::write::Signer;

    /// The two numbers of a signature in DER, beside each other, as tokens give them.
    fn beside(der: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = &der[2..];
        while let [2, length, more @ ..] = rest {
            let (number, behind) = more.split_at(usize::from(*length));
            let number = number.strip_prefix(&[0]).unwrap_or(number);
            out.extend(vec![0; 32 - number.len()]);
            out.extend(number);
            rest = behind;
        }
        out
    }

    #[test]
    fn what_a_token_gives_verifies_in_every_form() {
        let (signer, _) = Signer::generate_p256().unwrap();
        // Many: the numbers begin with a set bit, or with a zero byte, only now and then.
        for round in 0..600_u32 {
            let payload = round.to_be_bytes();
            let signature = signer.sign(&payload).unwrap();
            let pair = beside(&signature);
            assert_eq!(pair.len(), 64);
            assert_eq!(der(&pair).unwrap(), signature);
        }
        let signature = signer.sign(b"x").unwrap();
        let pair = beside(&signature);
        for output in [
            signature.clone(),
            hex(&signature).into_bytes(),
            pair.clone(),
            format!("{}\n", hex(&pair).to_uppercase()).into_bytes(),
        ] {
            let good = |form: &Vec<u8>| signer.key().verifies(b"x", form);
            assert!(forms(&output).iter().any(good), "{output:?}");
        }
    }

    #[test]
    fn a_command_that_fails_says_so_and_one_that_signs_nothing_is_not_believed() {
        let (signer, _) = Signer::generate().unwrap();
        let run = |script: &str| {
            let command = ["sh", "-c", script].map(str::to_owned);
            sign(&command, signer.key(), b"payload").unwrap_err()
        };
        assert!(
            run("exit 3").contains("exit status: 3"),
            "{}",
            run("exit 3")
        );
        assert!(run("cat").contains("no signature of this key"));
        assert!(!run("exit 3 # --pin 1234").contains("1234"));
        assert!(run("exec true").contains("(0 bytes)"));
        let gone = sign(&["/nowhere/token".to_owned()], signer.key(), b"x");
        assert!(gone.unwrap_err().contains("/nowhere/token"));
    }
}
