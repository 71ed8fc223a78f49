//! Signed envelopes, by the Dead Simple Signing Envelope (DSSE) 1.0.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use kaizen_core::{Context, Error, ErrorKind, Result, Signer};
use kaizen_store::VerifierKey;
use serde::{Deserialize, Serialize};

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// At most this many bytes in an envelope.
const MAX_BYTES: usize = 64 << 20;
/// At most this many signatures on an envelope.
const MAX_SIGNATURES: usize = 64;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Signers write either alphabet, and verifiers must take both.
const ALPHABETS: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&alphabet::STANDARD, LENIENT),
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT),
];

/// What a text in base64 says, in the standard alphabet or in the one for addresses.
fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let [standard, url_safe] = ALPHABETS;
    standard.decode(text).or_else(|error| url_safe.decode(text).map_err(|_| error))
}

/// A payload with its type and the signatures of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The payload in base64, in either alphabet.
    payload: String,
    /// What the payload is.
    payload_type: String,
    /// Who signed it.
    signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// Which key made it: a hint, which proves nothing. Ours are `name+hash+base64`, the verifier
    /// key itself.
    #[serde(default)]
    pub keyid: String,
    /// The signature in base64.
    pub sig: String,
}

/// What is signed: `DSSEv1`, and type and payload, each after its length in bytes.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a payload.
    ///
    /// # Errors
    ///
    /// As the signer.
    pub async fn seal(payload_type: &str, payload: &[u8], signer: &dyn Signer) -> Result<Self> {
        let unsigned = Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: Vec::new(),
        };
        unsigned.countersign(signer).await
    }

    /// Adds the signature of another key to those that are there.
    ///
    /// # Errors
    ///
    /// As the signer; [`ErrorKind::Corrupt`] if the payload is no base64.
    pub async fn countersign(mut self, signer: &dyn Signer) -> Result<Self> {
        let message = pae(&self.payload_type, &self.payload()?);
        let key = VerifierKey::new(signer.name(), signer.public_key())?;
        let sig = STANDARD.encode(signer.sign(&message).await?);
        self.signatures.push(EnvelopeSignature { keyid: key.to_string(), sig });
        Ok(self)
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] beyond 64 MiB or 64 signatures, [`ErrorKind::Corrupt`] if it is no
    /// envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let limit = |found| Error::new(ErrorKind::Limit, format!("DSSE envelope: {found}"));
        if bytes.len() > MAX_BYTES {
            return Err(limit(format!("{} bytes, over {MAX_BYTES}", bytes.len())));
        }
        let envelope: Self =
            serde_json::from_slice(bytes).context(ErrorKind::Corrupt, "DSSE envelope")?;
        let signatures = envelope.signatures.len();
        if signatures > MAX_SIGNATURES {
            return Err(limit(format!("{signatures} signatures, over {MAX_SIGNATURES}")));
        }
        Ok(envelope)
    }

    /// The JSON form.
    ///
    /// # Errors
    ///
    /// None in practice: [`ErrorKind::Internal`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context(ErrorKind::Internal, "DSSE envelope as JSON")
    }

    /// What the payload is said to be. Signed with it.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// Who signed it, or says so: only [`Envelope::open`] checks.
    pub fn signatures(&self) -> &[EnvelopeSignature] {
        &self.signatures
    }

    /// The payload, if one of these keys signed it. Whether the type is the one that is expected
    /// is for the caller to see.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if none of the keys signed it, or it is no base64.
    pub fn open(&self, keys: &[VerifierKey]) -> Result<Vec<u8>> {
        let payload = self.payload()?;
        let message = pae(&self.payload_type, &payload);
        let signatures = self
            .signatures
            .iter()
            .filter_map(|signature| <[u8; 64]>::try_from(decode(&signature.sig).ok()?).ok());
        for signature in signatures {
            // By the specification the key's id only hints; every key is tried.
            if keys.iter().any(|key| key.verify(&message, &signature).is_ok()) {
                return Ok(payload);
            }
        }
        let names: Vec<_> = keys.iter().map(VerifierKey::name).collect();
        Err(Error::corrupt(format!("DSSE envelope: not signed by `{}`", names.join("`, `"))))
    }

    fn payload(&self) -> Result<Vec<u8>> {
        decode(&self.payload).context(ErrorKind::Corrupt, "DSSE envelope: its payload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes whose base64 has `+` and `/` in the standard alphabet, as a signature has now and
    /// then.
    #[tokio::test]
    async fn an_envelope_in_the_alphabet_for_addresses_opens() {
        let signer = kaizen_store::Ed25519Signer::from_seed("example.com", [1; 32]).unwrap();
        let payload = [0xfb, 0xff, 0xfe, 0x3e];
        let sealed = Envelope::seal("text/x", &payload, &signer).await.unwrap();
        let text = String::from_utf8(sealed.to_bytes().unwrap()).unwrap();
        assert!(text.contains("\"payload\":\"+//+Pg==\""), "{text}");
        let sig = sealed.signatures[0].sig.replace('+', "-").replace('/', "_");
        for payload_text in ["-__-Pg==", "-__-Pg", "+//+Pg=="] {
            let text = serde_json::json!({
                "payload": payload_text, "payloadType": "text/x", "signatures": [{"sig": sig}],
            });
            let envelope = Envelope::parse(text.to_string().as_bytes()).unwrap();
            assert_eq!(envelope.open(&[signer.verifier()]).unwrap(), payload, "{payload_text}");
        }
        let mixed = r#"{"payload":"+__+Pg==","payloadType":"text/x","signatures":[]}"#;
        assert!(Envelope::parse(mixed.as_bytes()).unwrap().open(&[signer.verifier()]).is_err());
    }

    /// The example of the protocol's own document.
    #[test]
    fn the_encoding_that_is_signed_is_that_of_the_specification() {
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
