//! Names of hosts: `/etc/hosts`, then the machine's name servers.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the C library asks when the machine names no server. No name leaves the machine that
/// its owner has not sent to a server.
const NO_SERVERS: &[u8] = b"\nnameserver 127.0.0.1\n";

/// A server on this machine answers fast; that there is none shows only by silence.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Resolves names in the program itself: a static binary cannot load the C library's modules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolver {
    state: Arc<OnceLock<State>>,
}

#[derive(Debug)]
struct State {
    resolver: TokioResolver,
    servers: Servers,
}

/// Where the name servers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    Configured,
    Assumed,
}

/// A lookup failed, and the machine names no server.
#[derive(Debug, thiserror::Error)]
#[error("`{RESOLV_CONF}` names no server, and none answers at 127.0.0.1")]
pub(crate) struct NoNameServer(#[source] NetError);

impl Resolver {
    /// Reads the machine's configuration at the first lookup, inside of the runtime.
    fn start(&self) -> Result<&State, Box<dyn Error + Send + Sync>> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let text = match std::fs::read(RESOLV_CONF) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(unreadable)?,
        };
        let (config, options, servers) = configuration(&text).map_err(unreadable)?;
        let runtime = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, runtime);
        *builder.options_mut() = options;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let resolver = builder.build()?;
        Ok(self.state.get_or_init(|| State { resolver, servers }))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let State { resolver, servers } = resolver.start()?;
            let found = match (resolver.lookup_ip(name.as_str()).await, servers) {
                (Err(error), Servers::Assumed) if !error.is_no_records_found() => {
                    return Err(NoNameServer(error).into());
                }
                (found, _) => found?,
            };
            let found: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

fn configuration(text: &[u8]) -> Result<(ResolverConfig, ResolverOpts, Servers), NetError> {
    if let Ok((config, options)) = parse_resolv_conf(text) {
        return Ok((config, options, Servers::Configured));
    }
    let (config, mut options) = parse_resolv_conf([text, NO_SERVERS].concat())?;
    options.timeout = LOCAL_TIMEOUT;
    options.attempts = 1;
    Ok((config, options, Servers::Assumed))
}

fn unreadable(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::other(Unreadable(error.into()))
}

/// The name servers of this machine are not known.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{RESOLV_CONF}`")]
struct Unreadable(#[source] Box<dyn Error + Send + Sync>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_name_servers_nothing_but_this_machine_is_asked() {
        let check = |text: &str, servers: &[&str], search: usize| {
            let (config, _, origin) = configuration(text.as_bytes()).unwrap();
            let is_assumed = servers == ["127.0.0.1"];
            assert_eq!(origin == Servers::Assumed, is_assumed, "{text:?}");
            let found: Vec<String> = config
                .name_servers()
                .iter()
                .map(|server| server.ip.to_string())
                .collect();
            assert_eq!(found, servers, "{text:?}");
            assert_eq!(config.search().len(), search, "{text:?}");
        };
        check("", &["127.0.0.1"], 0);
        check("# none\n", &["127.0.0.1"], 0);
        check("search a.test b.test", &["127.0.0.1"], 2);
        check("nameserver 192.0.2.1\n", &["192.0.2.1"], 0);
        check(
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test\n",
            &["192.0.2.1", "2001:db8::1"],
            1,
        );
    }
}
