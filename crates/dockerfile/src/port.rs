//! `EXPOSE`: port specifications.

use std::net::IpAddr;

/// Why a port specification is wrong. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// There is no port.
    #[error("invalid port: {0:?}: no port specified")]
    Missing(String),
    /// The protocol is not tcp, udp or sctp.
    #[error("invalid port: {port:?}: invalid proto: {protocol}")]
    Protocol {
        /// The specification.
        port: String,
        /// The protocol.
        protocol: String,
    },
    /// The port or range is not one.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// The port or range of the host, which docker reads and drops, is not one.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// The address of the host, which docker reads and drops, is not one.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// The ranges differ in length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The range of the container.
        container: String,
        /// The range of the host.
        host: String,
    },
}

/// A specification `[[address:]host-port:]port[/protocol]`, cut into its parts.
pub(crate) struct Parts<'a> {
    pub(crate) address: &'a str,
    pub(crate) host: &'a str,
    port: &'a str,
    pub(crate) protocol: &'a str,
}

pub(crate) fn parts(specification: &str) -> Parts<'_> {
    let (before, container) = match specification.rsplit_once(':') {
        Some((before, container)) => (before, container),
        None => ("", specification),
    };
    let (address, host) = before.rsplit_once(':').unwrap_or(("", before));
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    Parts {
        address,
        host,
        port,
        protocol,
    }
}

/// Returns the ports of an expanded specification such as `80`, `53/udp` or `8000-8002`, each
/// with its protocol: `80/tcp`.
pub fn normalize(specification: &str) -> Result<Vec<String>, PortError> {
    let Parts {
        address,
        host,
        port,
        protocol,
    } = parts(specification);
    if port.is_empty() {
        return Err(PortError::Missing(specification.to_owned()));
    }
    let lower = protocol.to_ascii_lowercase();
    let lower = match lower.as_str() {
        "" => "tcp",
        known @ ("tcp" | "udp" | "sctp") => known,
        _ => {
            return Err(PortError::Protocol {
                port: specification.to_owned(),
                protocol: protocol.to_owned(),
            });
        }
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(bare.to_owned()));
    }
    let (first, last) = range(port).ok_or_else(|| PortError::ContainerPort(port.to_owned()))?;
    if !host.is_empty() {
        let (host_first, host_last) =
            range(host).ok_or_else(|| PortError::HostPort(host.to_owned()))?;
        if first != last && last - first != host_last - host_first {
            return Err(PortError::Ranges {
                container: port.to_owned(),
                host: host.to_owned(),
            });
        }
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{lower}"))
        .collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(specification: &str, expected: Result<&[&str], &str>) {
        let found = normalize(specification).map_err(|error| error.to_string());
        let expected = expected
            .map(|ports| ports.iter().map(|port| (*port).to_owned()).collect())
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{specification}");
    }

    #[test]
    fn ports_are_written_with_their_protocol() {
        check("80", Ok(&["80/tcp"]));
        check("53/UDP", Ok(&["53/udp"]));
        check("80/", Ok(&["80/tcp"]));
        check("0", Ok(&["0/tcp"]));
        check("8000-8002", Ok(&["8000/tcp", "8001/tcp", "8002/tcp"]));
        check("8000-8000/sctp", Ok(&["8000/sctp"]));
        check("127.0.0.1:80:8080", Ok(&["8080/tcp"]));
        check("[::1]:80:8080/udp", Ok(&["8080/udp"]));
        check("5000:5001", Ok(&["5001/tcp"]));
        check("65535", Ok(&["65535/tcp"]));
        check(
            "65530-65535/udp",
            normalize("65530-65535/udp")
                .as_deref()
                .map(|ports| {
                    assert_eq!(ports.len(), 6);
                    &[
                        "65530/udp",
                        "65531/udp",
                        "65532/udp",
                        "65533/udp",
                        "65534/udp",
                        "65535/udp",
                    ][..]
                })
                .map_err(|_| ""),
        );
    }

    #[test]
    fn what_is_no_port_is_refused_in_buildkits_words() {
        check("", Err("invalid port: \"\": no port specified"));
        check("/tcp", Err("invalid port: \"/tcp\": no port specified"));
        check(
            "80/icmp",
            Err("invalid port: \"80/icmp\": invalid proto: icmp"),
        );
        check("65536", Err("invalid containerPort: 65536"));
        check("foo", Err("invalid containerPort: foo"));
        check("90-80", Err("invalid containerPort: 90-80"));
        check("1-", Err("invalid containerPort: 1-"));
        check("x:80", Err("invalid hostPort: x"));
        check("host:1:80", Err("invalid IP address: host"));
        check(
            "1-3:1-2",
            Err("invalid ranges specified for container and host Ports: 1-2 and 1-3"),
        );
    }
}
