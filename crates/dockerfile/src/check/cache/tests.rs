//! What is advised, and above all what is not.

use std::collections::BTreeMap;

use crate::check::{Base, CheckOptions, Coverage, Report, check};
use crate::ignore::Patterns;

fn report(text: &str, ignore: Option<&str>) -> Report {
    let dockerfile = crate::parse(text.as_bytes()).expect("valid");
    let ignore = ignore.map(|text| Patterns::parse(text.as_bytes()).expect("valid"));
    let none = BTreeMap::new();
    let options = CheckOptions {
        build_args: &none,
        platform_args: &none,
        coverage: Coverage::Target(None),
        ignore: ignore.as_ref(),
        settings: None,
        base: &|_| Base::default(),
        is_image_name: &|_| true,
    };
    check(&dockerfile, &options).expect("valid settings")
}

/// Returns `line rule` of each advice.
fn advice(text: &str) -> Vec<String> {
    let advice = report(&format!("FROM a\n{text}"), None).advice;
    let line = |warning: &crate::Warning| format!("{} {}", warning.span.start, warning.rule.name());
    advice.iter().map(line).collect()
}

#[test]
fn the_whole_context_comes_behind_what_needs_less() {
    for text in [
        "COPY . .\nRUN npm ci",
        "WORKDIR /app\nCOPY . .\nENV A=b\nRUN npm install --omit=dev && npm run build",
        "COPY package.json x ./\nCOPY ./ ./\nRUN yarn",
        "ADD . /src\nRUN cd /src && pip install --no-cache-dir -r requirements.txt",
        "COPY . .\nRUN python3 -m pip install -rdev.txt",
        "COPY . .\nRUN uv pip install -r a.txt -c b.txt",
        "COPY --chown=1 . .\nRUN [\"npm\", \"ci\"]",
        "COPY . .\nRUN <<E\nset -e\ngo mod download\ngo build\nE",
        "COPY . .\nRUN bundle install",
        "COPY . .\nRUN composer install --no-dev",
        "COPY . .\nRUN ./mvnw -B dependency:go-offline",
        "COPY . .\nRUN mvn -q package",
        "COPY . .\nRUN ./gradlew :app:lint build",
        "COPY . .\nRUN cargo build --release",
        "COPY . .\nRUN cargo install cargo-audit",
        "COPY . .\nRUN apt-get update && apt-get install -y gcc",
        "COPY . .\nRUN apk add --no-cache gcc",
        "RUN apk add --no-cache gcc\nCOPY . .\nRUN npm ci",
    ] {
        let found = advice(text);
        let [only] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        assert!(
            only.ends_with(" ContextCopiedBeforeInstall"),
            "{text}: {only}"
        );
    }
    for text in [
        "COPY package.json package-lock.json ./\nRUN npm ci\nCOPY . .\nRUN npm run build",
        "COPY package.json .\nRUN npm ci\nCOPY . .\nRUN npm ci",
        "RUN npm ci\nCOPY . .",
        "COPY . .\nRUN --mount=type=cache,target=/root/.npm npm ci",
        "COPY --from=b . .\nRUN npm ci",
        "COPY src .\nRUN npm ci",
        "COPY . .\nRUN npm install express",
        "COPY . .\nRUN npm install -g pnpm && npm --prefix web ci",
        "COPY . .\nRUN yarn build && yarn --version",
        "COPY . .\nRUN pip install .",
        "COPY . .\nRUN pip install -r requirements.txt -e .",
        "COPY . .\nRUN pip install -r $FILES",
        "COPY . .\nRUN pip install flask",
        "COPY . .\nRUN poetry install",
        "COPY . .\nRUN go build ./...",
        "COPY . .\nRUN make && echo \"npm ci\"",
        "COPY . .\nRUN apt-get install -y ./build/my.deb",
        "COPY . .\nRUN apt-get install -y $(cat packages.txt)",
        "COPY . .\nRUN xargs apt-get install -y < packages.txt",
        "COPY . .\nRUN <<E\n#!/usr/bin/env python3\nnpm ci\nE",
        "COPY . .\nCMD npm ci",
    ] {
        assert_eq!(advice(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn volatile_values_come_behind_what_does_not_use_them() {
    for (text, expected) in [
        ("ARG GIT_SHA\nRUN npm ci\nLABEL r=$GIT_SHA", "2"),
        ("ARG build_date=now\nRUN apk add --no-cache curl", "2"),
        (
            "ARG VERSION\nRUN pip install -r r.txt\nRUN make V=${VERSION}",
            "2",
        ),
        (
            "RUN true\nARG A VCS_REF\nENV REF=$VCS_REF\nRUN apt-get install -y a",
            "4",
        ),
        ("ARG COMMIT\nENV APP_COMMIT=${COMMIT}\nRUN npm ci", "3"),
    ] {
        let expected = format!("{expected} VolatileValueBeforeInstall");
        assert_eq!(advice(text), [expected], "{text}");
    }
    for text in [
        "RUN npm ci\nARG GIT_SHA\nLABEL r=$GIT_SHA",
        "ARG GIT_SHA\nRUN echo $GIT_SHA > /v && npm ci",
        "ARG GIT_SHA\nRUN make build",
        "ARG GIT_SHA\nRUN <<E\necho $GIT_SHA\nnpm ci\nE",
        "ARG VERSION=1.2\nRUN npm ci",
        "ARG NODE_VERSION\nRUN npm ci",
        "ARG GIT_SHA\nRUN --mount=type=cache,target=/root/.npm npm ci",
        "ARG GIT_SHA\nLABEL r=$GIT_SHA\nRUN true",
    ] {
        assert_eq!(advice(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_package_index_is_used_in_the_layer_that_has_it() {
    for (text, expected) in [
        ("RUN apt-get update\nRUN apt-get install -y curl", "3"),
        (
            "RUN apt update && apt install -y a\nRUN sudo apt-get -y install b\nRUN apt-get install c",
            "3",
        ),
        ("RUN apk update\nRUN apk add curl", "3"),
        ("RUN apt-get update\nRUN true\nRUN apt-get -y upgrade", "4"),
    ] {
        let expected = format!("{expected} PackageIndexInOtherLayer");
        assert_eq!(advice(text), [expected], "{text}");
    }
    for text in [
        "RUN apt-get update && apt-get install -y curl",
        "RUN apt-get update; apt-get install -y a && rm -rf /var/lib/apt/lists/*\nRUN apt-get install b",
        "RUN apt-get update\nRUN apt-get update && apt-get install -y curl",
        "RUN apt-get update\nRUN apk add curl",
        "RUN apk update\nRUN apk add --no-cache curl",
        "RUN apt-get update\nCOPY a.deb /\nRUN apt-get install -y /a.deb",
        "RUN --mount=type=cache,target=/var/lib/apt apt-get update\nRUN --mount=type=cache,target=/var/lib/apt apt-get install -y a",
        "RUN apt-get install -y a",
        "RUN apt-get update\nFROM b\nRUN apt-get install -y a",
    ] {
        assert_eq!(advice(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn each_advice_says_what_to_do() {
    let messages = |text: &str| {
        let advice = report(text, None).advice;
        let messages = advice.into_iter().map(|warning| warning.message);
        messages.collect::<Vec<_>>()
    };
    assert_eq!(
        messages(
            "FROM a\nARG GIT_SHA\nCOPY . .\nRUN npm ci\nRUN apt-get update\nRUN apt-get install -y a\nLABEL a=$GIT_SHA\n"
        ),
        [
            "`npm ci` on line 4 does not use GIT_SHA, but runs again for each of its values: move GIT_SHA right above line 7, which uses it",
            "`npm ci` on line 4 runs again when any file of the context changes: copy package.json and package-lock.json first, run it, and copy the rest behind it",
            "`apt-get install` uses the package index of line 5, which stays in the cache while its packages change and go: write `apt-get update && apt-get install` in one RUN",
        ]
    );
    assert_eq!(
        messages(
            "FROM a\nCOPY . .\nRUN cargo build\nFROM a\nARG COMMIT\nCOPY . .\nRUN apk add --no-cache b\n"
        ),
        [
            "`cargo build` on line 3 fetches its dependencies again when any file of the context changes: keep them with `RUN --mount=type=cache,target=/usr/local/cargo/registry`",
            "`apk add` on line 7 does not use COMMIT, but runs again for each of its values: move COMMIT to the end of the stage",
            "`apk add` on line 7 needs no file of the context, but runs again when any of them changes: move it above this instruction",
        ]
    );
}

#[test]
fn advice_can_be_skipped_and_fails_no_build() {
    let text = "FROM a\nCOPY . .\nRUN npm ci\n";
    let found = report(&format!("# check=error=true\n{text}"), None);
    assert_eq!((found.advice.len(), found.warnings.len()), (1, 0));
    assert_eq!(found.error, None);
    for skipped in [
        "# check=skip=ContextCopiedBeforeInstall\nFROM a\nCOPY . .\nRUN npm ci\n",
        "# check=skip=all\nFROM a\nCOPY . .\nRUN npm ci\n",
        "FROM a\n# check=skip=ContextCopiedBeforeInstall\nCOPY . .\nRUN npm ci\n",
    ] {
        assert_eq!(report(skipped, None).advice, [], "{skipped}");
    }
    let chosen = "*\n!package*.json\n!src\n";
    assert_eq!(report(text, Some(chosen)).advice, []);
    assert_eq!(report(text, Some("node_modules\n")).advice.len(), 1);
}
