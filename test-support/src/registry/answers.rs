//! What the double answers when it behaves: the OCI distribution specification, as far as the tests need it.

use super::wire::{Answer, Incoming};
use super::*;

pub(super) fn answer(
    state: &mut State,
    request: &Incoming,
    address: SocketAddr,
    fault: Option<&Fault>,
) -> Answer {
    if request.body.len() > state.limit {
        return Answer::error(413, "SIZE_INVALID");
    }
    if request.path == "/token" {
        return token(state, request);
    }
    if let Some(refusal) = refuse(state, request, address) {
        return refusal;
    }
    let Some(rest) = request.path.strip_prefix("/v2/") else {
        return Answer::error(404, "UNSUPPORTED");
    };
    if rest.is_empty() {
        return Answer::new(200);
    }
    if let Some((repository, name)) = rest.split_once("/manifests/") {
        return manifest(state, request, repository, name);
    }
    match rest.split_once("/blobs/") {
        Some((repository, name)) if name.starts_with("uploads/") => {
            upload(state, request, repository, address, fault)
        }
        Some((repository, name)) => blob(state, request, repository, name, fault),
        None => Answer::error(404, "UNSUPPORTED"),
    }
}

pub(super) fn refuse(state: &mut State, request: &Incoming, address: SocketAddr) -> Option<Answer> {
    let given = request.headers.get("authorization").map(String::as_str);
    let (fine, usual) = match &state.auth {
        Auth::Open => return None,
        Auth::Basic(user, password) => {
            let expected = format!("Basic {}", base64(&format!("{user}:{password}")));
            (
                given == Some(&expected),
                r#"Basic realm="double""#.to_owned(),
            )
        }
        Auth::Bearer(..) => {
            let token = given.and_then(|given| given.strip_prefix("Bearer "));
            let left = token.and_then(|token| state.tokens.get_mut(token));
            let fine = left.is_some_and(|left| {
                let fine = *left > 0;
                *left = left.saturating_sub(1);
                fine
            });
            let usual = format!(r#"Bearer realm="http://{address}/token",service="double""#);
            (fine, usual)
        }
    };
    let challenge = state.challenge.clone().unwrap_or(usual);
    let challenge = challenge.replace("ADDRESS", &address.to_string());
    if !fine && state.hides && request.path != "/v2/" {
        return Some(Answer::error(404, "MANIFEST_UNKNOWN"));
    }
    (!fine).then(|| Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge))
}

pub(super) fn token(state: &mut State, request: &Incoming) -> Answer {
    let Auth::Bearer(wanted, uses) = state.auth.clone() else {
        return Answer::error(404, "UNSUPPORTED");
    };
    let given = request.headers.get("authorization").cloned();
    let by_password = wanted.as_ref().is_none_or(|(user, password)| {
        given == Some(format!("Basic {}", base64(&format!("{user}:{password}"))))
    });
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let by_token = request.method == "POST"
        && wanted
            .as_ref()
            .is_some_and(|(_, password)| form.contains(&format!("refresh_token={password}")));
    if !by_password && !by_token {
        return Answer::error(401, "UNAUTHORIZED");
    }
    state.count += 1;
    let token = format!("token-{}", state.count);
    state.tokens.insert(token.clone(), uses);
    let mut answer = Answer::new(200);
    let key = if by_token { "access_token" } else { "token" };
    answer.body = format!(r#"{{"{key}":"{token}","expires_in":300}}"#).into_bytes();
    answer
}

pub(super) fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text
        .bytes()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let mut encoded: String = bits
        .chunks(6)
        .map(|six| {
            let value = (0..6).fold(0, |value, at| {
                value << 1 | six.get(at).copied().unwrap_or(0)
            });
            char::from(DIGITS[usize::from(value)])
        })
        .collect();
    while !encoded.len().is_multiple_of(4) {
        encoded.push('=');
    }
    encoded
}

pub(super) fn manifest(
    state: &mut State,
    request: &Incoming,
    repository: &str,
    name: &str,
) -> Answer {
    let key = (repository.to_owned(), name.to_owned());
    if request.method == "PUT" {
        let kind = request
            .headers
            .get("content-type")
            .cloned()
            .unwrap_or_default();
        let has = |text: &[u8]| request.body.windows(text.len()).any(|part| part == text);
        if state.images_only && (has(b".oci.empty.") || has(b"vnd.rbuild.layer")) {
            return Answer::error(400, "MANIFEST_INVALID");
        }
        let digest = digest(&request.body);
        let value = (kind, request.body.clone());
        state.manifests.insert(key, value.clone());
        state
            .manifests
            .insert((repository.to_owned(), digest.clone()), value);
        return Answer::new(201).with("Docker-Content-Digest", digest);
    }
    let Some((kind, bytes)) = state.manifests.get(&key) else {
        return Answer::error(404, "MANIFEST_UNKNOWN");
    };
    let mut answer = Answer::new(200)
        .with("Content-Type", kind.clone())
        .with("Docker-Content-Digest", digest(bytes));
    answer.body.clone_from(bytes);
    answer
}

pub(super) fn blob(
    state: &State,
    request: &Incoming,
    repository: &str,
    name: &str,
    fault: Option<&Fault>,
) -> Answer {
    let key = (repository.to_owned(), name.to_owned());
    let Some(bytes) = state.blobs.get(name).filter(|_| state.links.contains(&key)) else {
        return Answer::error(404, "BLOB_UNKNOWN");
    };
    let from = request
        .headers
        .get("range")
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .filter(|_| !matches!(fault, Some(Fault::NoRange)));
    let mut answer = match from {
        Some(from) if from >= bytes.len() => return Answer::new(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206).with("Content-Range", range)
        }
        None => Answer::new(200),
    };
    answer.body = bytes[from.unwrap_or(0)..].to_vec();
    answer.with("Docker-Content-Digest", name)
}

pub(super) fn upload(
    state: &mut State,
    request: &Incoming,
    repository: &str,
    address: SocketAddr,
    fault: Option<&Fault>,
) -> Answer {
    let field = |name: &str| {
        request
            .query
            .get(name)
            .and_then(|values| values.first())
            .cloned()
    };
    if request.method == "PATCH" {
        let session = state.sessions.entry(request.path.clone()).or_default();
        let range = request.headers.get("content-range");
        let start = range.and_then(|range| range.split('-').next()?.parse().ok());
        if start != Some(session.len()) {
            return Answer::new(416);
        }
        session.extend_from_slice(&request.body);
        return Answer::new(202).with("Location", format!("{}?state=y", request.path));
    }
    if request.method == "PUT" {
        let wanted = field("digest").unwrap_or_default();
        let mut bytes = state.sessions.remove(&request.path).unwrap_or_default();
        bytes.extend_from_slice(&request.body);
        if digest(&bytes) != wanted {
            return Answer::error(400, "DIGEST_INVALID");
        }
        state.blobs.insert(wanted.clone(), bytes);
        state.links.insert((repository.to_owned(), wanted));
        return Answer::new(201);
    }
    if let (Some(mount), Some(from)) = (field("mount"), field("from"))
        && !matches!(fault, Some(Fault::MountRefused))
        && state.links.contains(&(from, mount.clone()))
    {
        state.links.insert((repository.to_owned(), mount));
        return Answer::new(201);
    }
    state.count += 1;
    let path = format!("/v2/{repository}/blobs/uploads/{}?state=x", state.count);
    match fault {
        Some(Fault::NoLocation) => Answer::new(202),
        Some(Fault::RelativeLocation) => Answer::new(202).with("Location", path),
        _ => Answer::new(202).with("Location", format!("http://{address}{path}")),
    }
}
