//! The two proofs a signed-in device holds.
//!
//! An access token is a JWT that anybody with the public key can check, so no request asks the directory. It lives for
//! minutes: a session that ended is refused at the next refresh, and the gateway closes its sockets at once.
//!
//! A refresh token is the session's id, 32 secret bytes and a tag that only this server can make. Each use replaces it
//! by its successor, which is derived from it: the same token presented twice (an answer was lost, two tabs) gives the
//! same successor, and nothing secret is stored. The tag refuses a made-up token before the directory is asked, and
//! tells an outdated token, however old, from a made-up one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidings_ports::Session;
use tidings_types::{SessionId, Timestamp};

/// Why an access token proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessTokenError {
    /// This server made it, and its time is over.
    Expired,
    Invalid,
}

/// Makes and checks access tokens with one Ed25519 key.
pub(crate) struct AccessTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    key_id: String,
    ttl_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// User, session, device, space.
    sub: String,
    sid: String,
    did: String,
    spc: String,
    /// Seconds since 1970, as RFC 7519 has it.
    iat: u64,
    exp: u64,
    jti: String,
}

/// RFC 9068. No other kind of token signed with this key is ever taken for an access token.
const TOKEN_TYPE: &str = "at+jwt";
/// Ours have about 530 bytes; a longer one is refused before it is parsed.
const TOKEN_BYTES_MAX: usize = 1024;

impl AccessTokens {
    pub(crate) fn new(seed: &[u8; 32], ttl_ms: u64) -> Self {
        let public = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes();
        let mut validation = Validation::new(Algorithm::EdDSA);
        // The library would ask the system for the time; `verify` asks its caller.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Self {
            signing: EncodingKey::from_ed_der(&pkcs8(seed)),
            verifying: DecodingKey::from_ed_der(&public),
            validation,
            key_id: thumbprint(&public),
            ttl_ms,
        }
    }

    /// A token for a session, and when it expires. `id` is random.
    pub(crate) fn issue(&self, session: &Session, now: Timestamp, id: [u8; 16]) -> (String, Timestamp) {
        let expires_at = now.plus_ms(self.ttl_ms).as_ms() / 1000;
        let claims = Claims {
            sub: session.user.to_string(),
            sid: session.session.to_string(),
            did: session.device.to_string(),
            spc: session.space.to_string(),
            iat: now.as_ms() / 1000,
            exp: expires_at,
            jti: URL_SAFE_NO_PAD.encode(id),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(self.key_id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.signing)
            .expect("the key fits the algorithm and the claims are plain strings and numbers");
        (token, Timestamp::from_ms(expires_at.saturating_mul(1000)))
    }

    /// The session that the token proves.
    ///
    /// # Errors
    /// `Expired` only for a token whose signature is good.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Session, AccessTokenError> {
        const INVALID: AccessTokenError = AccessTokenError::Invalid;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(INVALID);
        }
        // The algorithm is pinned by `validation`, never taken from the token.
        let data =
            jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).map_err(|_| INVALID)?;
        if data.header.kid.as_deref() != Some(&self.key_id) || data.header.typ.as_deref() != Some(TOKEN_TYPE)
        {
            return Err(INVALID);
        }
        let claims = data.claims;
        let session = Session {
            user: claims.sub.parse().map_err(|_| INVALID)?,
            session: claims.sid.parse().map_err(|_| INVALID)?,
            device: claims.did.parse().map_err(|_| INVALID)?,
            space: claims.spc.parse().map_err(|_| INVALID)?,
        };
        let expires_at = Timestamp::from_ms(claims.exp.saturating_mul(1000));
        if now < expires_at { Ok(session) } else { Err(AccessTokenError::Expired) }
    }
}

/// The private key as RFC 8410 wraps it: the only form the JWT library takes.
fn pkcs8(seed: &[u8; 32]) -> [u8; 48] {
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut der = [0; 48];
    der[..16].copy_from_slice(&PREFIX);
    der[16..].copy_from_slice(seed);
    der
}

/// The key's name: its JWK thumbprint (RFC 7638, RFC 8037).
fn thumbprint(public: &[u8; 32]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

/// Makes refresh tokens and knows its own.
pub(crate) struct RefreshTokens {
    key: [u8; 32],
}

/// A refresh token that this server made: outdated perhaps, but not made up.
#[derive(Clone)]
pub(crate) struct RefreshToken {
    session: SessionId,
    secret: [u8; 32],
    tag: [u8; TAG_BYTES],
}

const TAG_BYTES: usize = 16;
/// One key has two uses; what it authenticates begins with the use.
const FOR_TAG: &[u8] = b"tidings refresh tag";
const FOR_SUCCESSOR: &[u8] = b"tidings refresh successor";

impl RefreshTokens {
    pub(crate) const fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The first token of a session. `secret` is random.
    pub(crate) fn first(&self, session: SessionId, secret: [u8; 32]) -> RefreshToken {
        let whole: [u8; 32] = self.mac(FOR_TAG, session, &secret).finalize().into_bytes().into();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&whole[..TAG_BYTES]);
        RefreshToken { session, secret, tag }
    }

    /// The token that replaces this one.
    pub(crate) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let secret = self.mac(FOR_SUCCESSOR, token.session, &token.secret).finalize().into_bytes().into();
        self.first(token.session, secret)
    }

    /// The token in its text form; `None` if this server did not make it.
    pub(crate) fn parse(&self, text: &str) -> Option<RefreshToken> {
        let mut bytes = [0; 48 + TAG_BYTES];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (session, rest) = bytes[..len].split_first_chunk::<16>()?;
        let (secret, rest) = rest.split_first_chunk::<32>()?;
        let tag: &[u8; TAG_BYTES] = rest.try_into().ok()?;
        let session = SessionId::from_bytes(*session);
        self.mac(FOR_TAG, session, secret).verify_truncated_left(tag).ok()?;
        Some(RefreshToken { session, secret: *secret, tag: *tag })
    }

    fn mac(&self, usage: &[u8], session: SessionId, secret: &[u8; 32]) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.key)
            .expect("HMAC takes a key of any length")
            .chain_update(usage)
            .chain_update(session.as_bytes())
            .chain_update(secret)
    }
}

impl RefreshToken {
    pub(crate) const fn session(&self) -> SessionId {
        self.session
    }

    /// What the directory keeps of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.bytes()).into()
    }

    /// What the device keeps of it.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes())
    }

    fn bytes(&self) -> [u8; 48 + TAG_BYTES] {
        let mut bytes = [0; 48 + TAG_BYTES];
        bytes[..16].copy_from_slice(self.session.as_bytes());
        bytes[16..48].copy_from_slice(&self.secret);
        bytes[48..].copy_from_slice(&self.tag);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::decode_header;
    use tidings_types::{DeviceId, SpaceId, UserId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_790_000_000_400);
    const TTL_MS: u64 = 600_000;

    fn tokens() -> AccessTokens {
        AccessTokens::new(&[7; 32], TTL_MS)
    }

    fn session() -> Session {
        Session {
            session: SessionId::from_bytes([1; 16]),
            user: UserId::from_bytes([2; 16]),
            space: SpaceId::DEFAULT,
            device: DeviceId::from_bytes([4; 16]),
        }
    }

    /// RFC 8037, appendix A.
    #[test]
    fn the_key_and_its_name_are_those_of_the_standard() {
        let mut seed = [0; 32];
        let text = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        URL_SAFE_NO_PAD.decode_slice(text, &mut seed).unwrap();
        let tokens = AccessTokens::new(&seed, TTL_MS);
        let public = tokens.verifying.try_get_as_bytes().unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(public), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(tokens.key_id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn an_access_token_proves_its_session_until_it_expires() {
        let tokens = tokens();
        let (token, expires_at) = tokens.issue(&session(), NOW, [5; 16]);
        assert_eq!(
            expires_at,
            Timestamp::from_ms(1_790_000_600_000),
            "whole seconds, never later than asked"
        );
        assert_eq!(tokens.verify(&token, NOW), Ok(session()));
        assert_eq!(tokens.verify(&token, expires_at.minus_ms(1)), Ok(session()));
        assert_eq!(tokens.verify(&token, expires_at), Err(AccessTokenError::Expired));
        let header = decode_header(&token).unwrap();
        assert_eq!((header.alg, header.kid), (Algorithm::EdDSA, Some(tokens.key_id)));
        assert!(token.len() < 600, "{} bytes", token.len());
    }

    #[test]
    fn a_changed_access_token_is_invalid_wherever_it_was_changed() {
        let tokens = tokens();
        let (token, _) = tokens.issue(&session(), NOW, [5; 16]);
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.verify(&changed, NOW), Err(AccessTokenError::Invalid), "byte {index}");
        }
        for cut in 0..token.len() {
            assert_eq!(tokens.verify(&token[..cut], NOW), Err(AccessTokenError::Invalid), "cut at {cut}");
        }
        for grown in [format!("{token}A"), format!("{token}.A"), format!(" {token}"), "A".repeat(1 << 20)] {
            assert_eq!(tokens.verify(&grown, NOW), Err(AccessTokenError::Invalid));
        }
    }

    #[test]
    fn a_forged_access_token_is_invalid() {
        let tokens = tokens();
        let (token, _) = tokens.issue(&session(), NOW, [5; 16]);
        let claims = token.split('.').nth(1).unwrap();
        let public = tokens.verifying.try_get_as_bytes().unwrap();
        let kid = &tokens.key_id;

        // Without a signature.
        for algorithm in ["none", "None", ""] {
            let header =
                URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"at+jwt","alg":"{algorithm}","kid":"{kid}"}}"#));
            for forged in [format!("{header}.{claims}."), format!("{header}.{claims}")] {
                assert_eq!(tokens.verify(&forged, NOW), Err(AccessTokenError::Invalid), "{algorithm}");
            }
        }
        // With the public key taken for a shared secret.
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"at+jwt","alg":"HS256","kid":"{kid}"}}"#));
        let message = format!("{header}.{claims}");
        let mac = Hmac::<Sha256>::new_from_slice(public).unwrap().chain_update(&message).finalize();
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()));
        assert_eq!(tokens.verify(&forged, NOW), Err(AccessTokenError::Invalid));
        // By another server.
        let (foreign, _) = AccessTokens::new(&[8; 32], TTL_MS).issue(&session(), NOW, [5; 16]);
        assert_eq!(tokens.verify(&foreign, NOW), Err(AccessTokenError::Invalid));
    }

    #[test]
    fn a_token_of_another_kind_or_key_name_is_invalid() {
        let tokens = tokens();
        let (token, _) = tokens.issue(&session(), NOW, [5; 16]);
        let claims: serde_json::Value = {
            let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        for (typ, kid) in [("JWT", tokens.key_id.as_str()), (TOKEN_TYPE, "another key")] {
            let mut header = Header::new(Algorithm::EdDSA);
            header.typ = Some(typ.to_owned());
            header.kid = Some(kid.to_owned());
            let signed = jsonwebtoken::encode(&header, &claims, &tokens.signing).unwrap();
            assert_eq!(tokens.verify(&signed, NOW), Err(AccessTokenError::Invalid), "{typ} {kid}");
        }
    }

    #[test]
    fn a_refresh_token_is_known_again_and_always_has_the_same_successor() {
        let tokens = RefreshTokens::new([3; 32]);
        let first = tokens.first(SessionId::from_bytes([1; 16]), [2; 32]);
        let parsed = tokens.parse(&first.text()).unwrap();
        assert_eq!((parsed.session(), parsed.hash()), (first.session(), first.hash()));

        let second = tokens.successor(&first);
        assert_eq!(tokens.successor(&parsed).text(), second.text());
        let third = tokens.successor(&second);
        assert_eq!(tokens.parse(&third.text()).unwrap().session(), first.session());
        let texts = [first.text(), second.text(), third.text()];
        assert!(texts[0] != texts[1] && texts[1] != texts[2] && texts[0] != texts[2], "{texts:?}");
        assert_ne!(RefreshTokens::new([4; 32]).successor(&first).text(), second.text());
    }

    #[test]
    fn a_made_up_refresh_token_is_refused() {
        let tokens = RefreshTokens::new([3; 32]);
        let text = tokens.first(SessionId::from_bytes([1; 16]), [2; 32]).text();
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert!(tokens.parse(&String::from_utf8(changed).unwrap()).is_none(), "byte {index}");
        }
        for wrong in
            ["", "A", "not base64!", &text[1..], &format!("{text}A"), &"A".repeat(86), &"A".repeat(9999)]
        {
            assert!(tokens.parse(wrong).is_none(), "{wrong}");
        }
        assert!(RefreshTokens::new([4; 32]).parse(&text).is_none(), "another server's token");
    }
}
