//! Who a registry believes us to be: its challenge, our credentials, the tokens it gave.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::challenge::Challenge;
use super::courier::Courier;
use super::credentials::{Credentials, CredentialsError};
use super::error::{ClientError, Problem};
use super::registry::refusal;
use super::request::Request;
use super::transport::Response;

/// The longest answer of a token server that is read.
const MAX_TOKEN_SIZE: u64 = 1 << 20;
/// How long a token is good when its server does not say, and at least.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// A token this close to its end is renewed before a request rather than after.
const MARGIN: Duration = Duration::from_secs(10);
/// What token servers know this program as.
const CLIENT_ID: &str = "strata";

/// What is asked of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    pub(crate) actions: Actions,
}

/// What is done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actions {
    Pull,
    PullPush,
}

/// The state of authentication at one registry. Threads that need the same token wait for one
/// of them to fetch it.
#[derive(Debug)]
pub(crate) struct Authority {
    registry: String,
    docker_config: Option<PathBuf>,
    /// Whether a password is offered for an identity token.
    purpose: Purpose,
    state: Mutex<State>,
}

/// What tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To pull and push.
    Access,
    /// To log in.
    Login,
}

#[derive(Debug, Default)]
struct State {
    challenge: Option<Challenge>,
    /// Known after the first challenge; the inner `None` is an anonymous user.
    credentials: Option<Option<Credentials>>,
    /// Why there are no credentials, when they cannot be read. What is public is pulled all the
    /// same, as docker does; a refusal is laid to this.
    problem: Option<CredentialsError>,
    tokens: BTreeMap<Vec<Scope>, Token>,
    identity: Option<String>,
}

struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// Whether there is something new to try after a 401.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// Ask again.
    Renewed,
    /// The answer stands.
    Final,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions = match self.actions {
            Actions::Pull => "pull",
            Actions::PullPush => "pull,push",
        };
        write!(f, "repository:{}:{actions}", self.repository)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Authority {
    pub(crate) fn new(registry: &str, docker_config: Option<PathBuf>) -> Self {
        Self {
            registry: registry.to_owned(),
            docker_config,
            purpose: Purpose::Access,
            state: Mutex::default(),
        }
    }

    /// Returns an authority to log in to with `credentials`, whatever is kept.
    pub(crate) fn with_credentials(registry: &str, credentials: Credentials) -> Self {
        Self {
            registry: registry.to_owned(),
            docker_config: None,
            purpose: Purpose::Login,
            state: Mutex::new(State {
                credentials: Some(Some(credentials)),
                ..State::default()
            }),
        }
    }

    /// Returns the token that was given in place of a password, if one was.
    pub(crate) fn identity_token(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.identity.clone()
    }

    /// Tells whether credentials are kept for the registry.
    pub(crate) fn has_credentials(&self) -> Result<bool, ClientError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.credentials(&mut state).is_some();
        match self.problem_of(&mut state) {
            Some(problem) => Err(problem),
            None => Ok(found),
        }
    }

    /// Returns the `Authorization` header for `scopes`, fetching a token when the registry is
    /// known to want one; `None` before the first challenge and for anonymous users.
    pub(crate) fn authorization(
        &self,
        courier: &Courier,
        scopes: &[Scope],
    ) -> Result<Option<HeaderValue>, ClientError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.current(&mut state, courier, scopes)
    }

    /// Takes in a 401 answer to a request that carried `rejected`.
    pub(crate) fn renew(
        &self,
        courier: &Courier,
        response: &Response,
        scopes: &[Scope],
        rejected: Option<&HeaderValue>,
    ) -> Result<Renewal, ClientError> {
        let Some(challenge) = Challenge::of(response.headers()) else {
            return Ok(Renewal::Final);
        };
        if let Challenge::Bearer { realm, .. } = &challenge {
            courier
                .locate(response.url(), realm.as_str())
                .map_err(|problem| response.invalid(problem))?;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.tokens.get(scopes).map(|token| &token.header);
        if known.is_some() && known == rejected {
            state.tokens.remove(scopes);
        }
        state.challenge = Some(challenge);
        let header = self.current(&mut state, courier, scopes)?;
        Ok(if header.is_none() || header.as_ref() == rejected {
            Renewal::Final
        } else {
            Renewal::Renewed
        })
    }

    fn current(
        &self,
        state: &mut State,
        courier: &Courier,
        scopes: &[Scope],
    ) -> Result<Option<HeaderValue>, ClientError> {
        let Some(challenge) = state.challenge.clone() else {
            return Ok(None);
        };
        if let Some(token) = state.tokens.get(scopes)
            && Instant::now() + MARGIN < token.good_until
        {
            return Ok(Some(token.header.clone()));
        }
        let credentials = self.credentials(state);
        match (&challenge, &credentials) {
            (_, Some(Credentials::Bearer(token))) => Ok(secret(&format!("Bearer {token}"))),
            (Challenge::Basic, Some(Credentials::Basic { user, password })) => {
                Ok(secret(&basic(user, password)))
            }
            (Challenge::Basic, Some(Credentials::Identity(_)) | None) => Ok(None),
            (Challenge::Bearer { realm, service, .. }, credentials) => {
                let mut realm = realm.clone();
                if self.purpose == Purpose::Login {
                    realm
                        .query_pairs_mut()
                        .append_pair("offline_token", "true")
                        .append_pair("client_id", CLIENT_ID);
                }
                let request =
                    token_request(&realm, service.as_deref(), scopes, credentials.as_ref());
                let (token, identity) = fetch_token(courier, &request)
                    .map_err(|error| self.problem_of(state).unwrap_or(error))?;
                state.identity = identity;
                let header = token.header.clone();
                state.tokens.insert(scopes.to_vec(), token);
                Ok(Some(header))
            }
        }
    }

    /// Returns why the registry was asked without credentials, when that was not intended. Told
    /// once; then the credentials are looked up anew.
    pub(crate) fn take_problem(&self) -> Option<ClientError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.problem_of(&mut state)
    }

    fn problem_of(&self, state: &mut State) -> Option<ClientError> {
        let source = state.problem.take()?;
        state.credentials = None;
        Some(ClientError::Credentials {
            registry: self.registry.clone(),
            source,
        })
    }

    fn credentials(&self, state: &mut State) -> Option<Credentials> {
        if let Some(known) = &state.credentials {
            return known.clone();
        }
        let found = match &self.docker_config {
            None => Ok(None),
            Some(directory) => Credentials::look_up(directory, &self.registry),
        };
        let found = found.unwrap_or_else(|problem| {
            state.problem = Some(problem);
            None
        });
        state.credentials = Some(found.clone());
        found
    }
}

/// Asks as docker does: with GET, or for an identity token with the POST of OAuth 2.
fn token_request(
    realm: &Url,
    service: Option<&str>,
    scopes: &[Scope],
    credentials: Option<&Credentials>,
) -> Request {
    let scopes = scopes.iter().map(Scope::to_string);
    if let Some(Credentials::Identity(token)) = credentials {
        let mut form = Url::parse("form:").expect("invariant: a constant URL");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &scopes.collect::<Vec<_>>().join(" "))
            .append_pair("refresh_token", token);
        let form = form.query().unwrap_or_default().to_owned();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        return Request::new(Method::POST, realm.clone())
            .header(CONTENT_TYPE, kind)
            .body(form);
    }
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", &scope);
        }
        if let Some(Credentials::Basic { user, .. }) = credentials {
            query.append_pair("account", user);
        }
    }
    let request = Request::get(url);
    match credentials {
        Some(Credentials::Basic { user, password }) => match secret(&basic(user, password)) {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        },
        _ => request,
    }
}

/// Returns the token, and the one that may be kept in place of a password.
fn fetch_token(
    courier: &Courier,
    request: &Request,
) -> Result<(Token, Option<String>), ClientError> {
    let mut response = courier.deliver(request)?;
    if !response.status().is_success() {
        return Err(refusal(response));
    }
    let body = response.read_all(MAX_TOKEN_SIZE)?;
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| response.invalid(Problem::Document))?;
    let header = answer
        .token
        .filter(|token| !token.is_empty())
        .or(answer.access_token)
        .and_then(|token| secret(&format!("Bearer {token}")))
        .ok_or_else(|| response.invalid(Problem::Document))?;
    let life = answer.expires_in.map_or(SHORTEST_LIFE, Duration::from_secs);
    let good_until = Instant::now()
        .checked_add(life.max(SHORTEST_LIFE))
        .unwrap_or_else(|| Instant::now() + SHORTEST_LIFE);
    let identity = answer.refresh_token.filter(|token| !token.is_empty());
    Ok((Token { header, good_until }, identity))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// `None` when the text cannot be a header.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
