//! Lists: repositories and tags.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderValue, LINK};
use axum::http::{Method, Response};
use oci::Reference;
use serde_json::{Value, json};

use super::failure::Failure;
use super::manifests::known_tags;
use super::site::{Site, blocking, query};

/// The longest page.
const MAX_PAGE: usize = 1000;

struct Page {
    items: Vec<String>,
    last_of_more: Option<String>,
}

/// Answers `/v2/`: yes, this is a registry.
pub(crate) fn version(request: &Request) -> Result<Response<Body>, Failure> {
    only_read(request)?;
    Ok(document(&json!({})))
}

/// Lists the repositories that have a tag. Names with a port cannot be asked for and are left
/// out.
pub(crate) async fn catalog(site: &Arc<Site>, request: Request) -> Result<Response<Body>, Failure> {
    only_read(&request)?;
    let names = blocking(site, |site| {
        Ok(known_tags(site, None)?
            .iter()
            .map(Reference::familiar_repository)
            .filter(|name| !name.contains(':'))
            .collect())
    })
    .await?;
    let page = page(&request, names);
    let list = json!({ "repositories": page.items });
    paged(&request, &list, page.last_of_more)
}

/// Lists the tags of a repository.
pub(crate) async fn tags(
    site: &Arc<Site>,
    request: Request,
    repository: Reference,
) -> Result<Response<Body>, Failure> {
    only_read(&request)?;
    let name = repository.familiar_repository();
    let tags: BTreeSet<String> = blocking(site, move |site| {
        Ok(known_tags(site, Some(&repository))?
            .iter()
            .filter_map(|name| name.tag().map(str::to_owned))
            .collect())
    })
    .await?;
    if tags.is_empty() {
        return Err(Failure::name_unknown());
    }
    let page = page(&request, tags);
    let list = json!({ "name": name, "tags": page.items });
    paged(&request, &list, page.last_of_more)
}

fn only_read(request: &Request) -> Result<(), Failure> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Failure::method_not_allowed()),
    }
}

/// Cuts out what `n` and `last` ask for.
fn page(request: &Request, items: BTreeSet<String>) -> Page {
    let wanted = query(request, "n").and_then(|text| text.parse().ok());
    let size: usize = wanted.map_or(MAX_PAGE, |wanted: usize| wanted.min(MAX_PAGE));
    let after = query(request, "last").unwrap_or_default();
    let mut rest = items.into_iter().filter(|item| *item > after);
    let items: Vec<String> = rest.by_ref().take(size).collect();
    let last_of_more = rest.next().and(items.last().cloned());
    Page {
        items,
        last_of_more,
    }
}

fn paged(
    request: &Request,
    list: &Value,
    last_of_more: Option<String>,
) -> Result<Response<Body>, Failure> {
    let mut response = document(list);
    if let Some(last) = last_of_more {
        let size = query(request, "n").unwrap_or_else(|| MAX_PAGE.to_string());
        let mut next = reqwest::Url::parse("next:").map_err(Failure::internal)?;
        next.query_pairs_mut()
            .append_pair("n", &size)
            .append_pair("last", &last);
        let (path, query) = (request.uri().path(), next.query().unwrap_or_default());
        let link = format!("<{path}?{query}>; rel=\"next\"");
        let link = HeaderValue::from_str(&link).map_err(Failure::internal)?;
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

fn document(document: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(document.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
