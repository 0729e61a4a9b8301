//! Flags over environment over file over defaults.

use super::*;

#[test]
fn broker_by_flag_environment_and_file() {
    let file = "[broker]\nurl = \"amqp://file\"\n";
    for (variables, flag, expected) in [
        (vec![], None, "amqp://file"),
        (vec![("RABBITMQ_URL", "amqps://u:p@env/v")], None, "amqps://u:p@env/v"),
        (vec![("RABBITMQ_URL", "amqp://env")], Some("amqp://flag"), "amqp://flag"),
        (vec![("RABBITMQ_URL", "embedded")], None, "embedded"),
        (vec![("RABBITMQ_URL", "amqp://env")], Some("embedded"), "embedded"),
        (vec![("RABBITMQ_URL", "")], None, "amqp://file"),
        (vec![("RABBITMQ_HOST", "rabbit")], None, "amqp://guest:guest@rabbit:5672/%2F"),
        (vec![("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_VHOST", "")], None, "amqp://guest:guest@rabbit:5672/%2F"),
        (vec![("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_VHOST", "/")], None, "amqp://guest:guest@rabbit:5672/%2F"),
        (vec![("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_VHOST", "%2F")], None, "amqp://guest:guest@rabbit:5672/%2F"),
        (vec![("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_VHOST", "%2f\n")], None, "amqp://guest:guest@rabbit:5672/%2F"),
        (vec![("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_VHOST", "%2Fp")], None, "amqp://guest:guest@rabbit:5672/%252Fp"),
        (vec![("RABBITMQ_URL", "amqp://env"), ("RABBITMQ_HOST", "rabbit")], None, "amqp://env"),
        (vec![("RABBITMQ_PASSWORD", "only"), ("RABBITMQ_PORT", "1")], None, "amqp://file"),
        (
            vec![
                ("RABBITMQ_HOST", "::1"),
                ("RABBITMQ_PORT", "5673"),
                ("RABBITMQ_USER", "a@b"),
                ("RABBITMQ_PASSWORD", "p/w:ü"),
                ("RABBITMQ_VHOST", "my vhost"),
            ],
            None,
            "amqp://a%40b:p%2Fw%3A%C3%BC@[::1]:5673/my%20vhost",
        ),
    ] {
        let set = variables.iter().map(|(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned()));
        let set = set.collect::<Vec<_>>();
        let loaded = loaded(&format!("{file}{SMALLEST}"), |sources| {
            sources.environment.extend(set);
            sources.broker_url = flag.map(str::to_owned);
        });
        assert!(loaded.warnings.is_empty(), "{variables:?}");
        let url = match loaded.config.broker {
            BrokerChoice::Embedded => "embedded".to_owned(),
            BrokerChoice::Amqp(amqp) => amqp.url.expose().to_owned(),
        };
        assert_eq!(url, expected, "{variables:?} {flag:?}");
    }
}

/// A secret of Kubernetes that was made with `echo` ends with a line feed.
#[test]
fn white_space_around_a_variable_is_left_out() {
    for (variables, file, expected) in [
        (&[("RABBITMQ_URL", "amqp://u:p@env/v\n")][..], "", "amqp://u:p@env/v"),
        (
            &[
                ("RABBITMQ_HOST", "rabbit\n"),
                ("RABBITMQ_USER", "u\n"),
                ("RABBITMQ_PASSWORD", "p\r\n"),
                ("RABBITMQ_VHOST", "v\n"),
            ],
            "",
            "amqp://u:p@rabbit:5672/v",
        ),
        (
            &[("RABBITMQ_URL", "\n"), ("SECRET", "p\n")],
            "[broker]\nurl = \"amqp://u:${SECRET}@file/v\"\n",
            "amqp://u:p@file/v",
        ),
    ] {
        let set = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = loaded(&format!("{file}{SMALLEST}"), |sources| sources.environment.extend(set));
        assert!(loaded.warnings.is_empty(), "{variables:?}");
        let BrokerChoice::Amqp(amqp) = loaded.config.broker else { panic!("{variables:?} is a broker") };
        assert_eq!(amqp.url.expose(), expected, "{variables:?}");
    }
}

/// A Kubernetes service named `rabbitmq` sets `RABBITMQ_PORT` in every pod.
#[test]
fn the_port_of_a_service_is_understood() {
    for (variables, expected) in [
        (&[("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_PORT", "tcp://10.96.0.12:5673")][..], "rabbit:5673"),
        (&[("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_PORT", "tcp://[fd00::12]:5673")], "rabbit:5673"),
        (&[("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_PORT", "tcp://10.96.0.12:5673/")], "rabbit:5673"),
        // The first port of the service is the port of the management page. The first port of Docker's image is 4369.
        (
            &[
                ("RABBITMQ_HOST", "rabbit"),
                ("RABBITMQ_PORT", "tcp://10.96.0.12:15672"),
                ("RABBITMQ_PORT_5672_TCP", "tcp://10.96.0.12:5672"),
            ],
            "rabbit:5672",
        ),
        (
            &[
                ("RABBITMQ_HOST", "rabbit"),
                ("RABBITMQ_PORT", "5674"),
                ("RABBITMQ_PORT_5672_TCP", "tcp://10.96.0.12:5672"),
            ],
            "rabbit:5674",
        ),
        (&[("RABBITMQ_HOST", "tcp://10.96.0.12:5673")], "10.96.0.12:5673"),
        (&[("RABBITMQ_HOST", "tcp://[fd00::12]:5673")], "[fd00::12]:5673"),
        (&[("RABBITMQ_HOST", "tcp://10.96.0.12:5673"), ("RABBITMQ_PORT", "5674")], "10.96.0.12:5674"),
        (&[("RABBITMQ_URL", "amqp://guest:guest@env/%2F"), ("RABBITMQ_PORT", "tcp://10.96.0.12:5673")], "env"),
    ] {
        let set = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = loaded(SMALLEST, |sources| sources.environment.extend(set));
        assert!(loaded.warnings.is_empty(), "{variables:?}");
        let BrokerChoice::Amqp(amqp) = loaded.config.broker else { panic!("{variables:?} is a broker") };
        assert_eq!(amqp.url.expose(), format!("amqp://guest:guest@{expected}/%2F"), "{variables:?}");
    }
    let alone = loaded(SMALLEST, |sources| {
        sources.environment.insert("RABBITMQ_PORT".to_owned(), "tcp://10.96.0.12:5672".to_owned());
    });
    assert_eq!(alone.config.broker, BrokerChoice::Embedded);
    assert_eq!(alone.warnings[0].code, Code::HalfBroker.as_str());
}

/// The daemon ignores the values of other programs and uses the address in the file. With `--listen`, the daemon reports no
/// warning.
#[test]
fn foreign_addresses_are_left_out() {
    let file = format!("[http]\nlisten = \"127.0.0.1:9000\"\n{SMALLEST}");
    for (name, value, count) in [
        ("HOST", "x86_64-conda-linux-gnu", 1),
        ("HOST", "my-laptop", 1),
        ("HOST", " 127.0.0.1\n", 0),
        ("PORT", "tcp://10.96.0.12:80", 1),
        ("PORT", "/dev/ttyUSB0", 1),
        ("PORT", "\\\\.\\pipe\\web", 1),
    ] {
        let set = |sources: &mut Sources| drop(sources.environment.insert(name.to_owned(), value.to_owned()));
        let found = loaded(&file, set);
        assert_eq!(found.config.http.listen.to_string(), "127.0.0.1:9000", "{name}={value}");
        assert_eq!(found.warnings.len(), count, "{name}={value}");
        assert!(found.warnings.iter().all(|warning| warning.code == Code::BadVariable.as_str()), "{name}={value}");
        let flagged = loaded(&file, |sources| {
            set(sources);
            sources.listen = Some("127.0.0.1:1".to_owned());
        });
        assert!(flagged.warnings.is_empty(), "{name}={value}");
    }
    let environment = [("PORT".to_owned(), "70000".to_owned())].into();
    let rejected = check(SMALLEST, &Sources { environment, state_dir: Some("s".into()), ..sources("r.toml") });
    assert_eq!(rejected.expect_err("no port").diagnostics[0].code, Code::BadVariable.as_str());
}

/// The URLs of compose files end with a slash. A template may omit the virtual host.
#[test]
fn an_empty_path_is_the_virtual_host_of_the_slash() {
    let vhost = |file: &str, variables: &[(&str, &str)], flag: Option<&str>| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = loaded(&format!("{file}{SMALLEST}"), |sources| {
            sources.environment.extend(variables);
            sources.broker_url = flag.map(str::to_owned);
        });
        match loaded.config.broker {
            BrokerChoice::Amqp(amqp) => amqp.url.vhost.clone(),
            BrokerChoice::Embedded => panic!("{file} has a URL"),
        }
    };
    for url in ["amqp://h", "amqp://h:5672/", "amqp://guest:guest@h:5672//", "amqps://h/?heartbeat=5", "amqp://h/%2f"] {
        assert_eq!(vhost(&format!("[broker]\nurl = \"{url}\"\n"), &[], None), "/", "{url} in the file");
        assert_eq!(vhost("", &[("RABBITMQ_URL", url)], None), "/", "{url} in RABBITMQ_URL");
        assert_eq!(vhost("", &[], Some(url)), "/", "{url} in --broker");
    }
    let template = "[broker]\nurl = \"amqp://h:5672/${RABBITMQ_VHOST:-}\"\n";
    assert_eq!(vhost(template, &[("RABBITMQ_VHOST", "")], None), "/");
    assert_eq!(vhost(template, &[("RABBITMQ_VHOST", "/")], None), "/");
    assert_eq!(vhost(template, &[("RABBITMQ_VHOST", "prod")], None), "prod");
}

/// The level names of Python's `logging` are levels. An empty variable counts as not set.
#[test]
fn log_levels_come_from_the_environment() {
    for (variables, expected) in [
        (&[][..], "info"),
        (&[("LOG_LEVEL", "")], "info"),
        (&[("LOG_LEVEL", "WARNING")], "info,warn"),
        (&[("LOG_LEVEL", "critical")], "info,error"),
    ] {
        assert_eq!(config_with(SMALLEST, variables).log_filter.directives(), expected, "{variables:?}");
    }
    let environment = [("LOG_LEVEL".to_owned(), "loud".to_owned())].into();
    let rejected = check(SMALLEST, &Sources { environment, state_dir: Some("s".into()), ..sources("r.toml") });
    let found = rejected.expect_err("no level").diagnostics;
    assert_eq!((found.len(), found[0].code, found[0].file.as_str()), (1, "TL015", "environment"));
    assert!(
        found[0].message.contains("\"off\", \"critical\", \"fatal\", \"error\", \"warning\""),
        "{}",
        found[0].message
    );
}

#[test]
fn listener_by_flag_environment_and_file() {
    let with_file = format!("[http]\nlisten = \"localhost:9000\"\n{SMALLEST}");
    for (source, variables, flag, expected) in [
        (SMALLEST, vec![("PORT", "81")], None, "127.0.0.1:81"),
        (&with_file, vec![], None, "127.0.0.1:9000"),
        (&with_file, vec![("PORT", "81")], None, "127.0.0.1:81"),
        (&with_file, vec![("HOST", "::1")], None, "[::1]:9000"),
        (&with_file, vec![("HOST", "0.0.0.0"), ("PORT", "81")], Some("127.0.0.1:0"), "127.0.0.1:0"),
    ] {
        let set: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let loaded = loaded(source, |sources| {
            sources.environment.extend(set);
            sources.listen = flag.map(str::to_owned);
        });
        assert_eq!(loaded.config.http.listen.to_string(), expected, "{variables:?} {flag:?}");
    }
}

#[test]
fn listening_to_strangers_needs_a_token_or_consent() {
    let open = format!("[http]\nlisten = \"0.0.0.0:8000\"\n{SMALLEST}");
    assert!(check(&open, &sources("r.toml")).is_err());
    assert!(loaded(&open, |sources| sources.insecure = true).warnings.is_empty());
    let host = [("HOST".to_owned(), "0.0.0.0".to_owned())].into();
    let rejected = check(SMALLEST, &Sources { environment: host, state_dir: Some("s".into()), ..sources("r.toml") });
    let rejected = rejected.expect_err("HOST opens the listener").diagnostics;
    assert_eq!((rejected[0].code, rejected[0].file.as_str()), ("TL019", "environment"));

    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("token"), "from-the-file-0123456789\n").expect("writable");
    let tokens = "[http]\nlisten = \"[::]:8000\"\ntokens = [{ env = \"T\" }, { file = \"token\" }, \"${T}-2\"]\n";
    let loaded = loaded(&format!("{tokens}{SMALLEST}"), |sources| {
        sources.file = directory.path().join("routes.toml");
        sources.environment.insert("T".to_owned(), "from-the-environment".to_owned());
    });
    let tokens = loaded.config.http.tokens.iter().map(Secret::expose).collect::<Vec<_>>();
    assert_eq!(tokens, ["from-the-environment", "from-the-file-0123456789", "from-the-environment-2"]);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn environment_replaces_defaults_but_not_what_a_queue_says_itself() {
    let source = "
        [broker]
        prefetch = 7
        [defaults]
        ttl = \"1h\"
        concurrency = 2
        exchange = { name = \"bus\", type = \"direct\", codec = \"ocelot\" }
        [queues.own]
        bind = \"k\"
        ttl = \"5s\"
        prefetch = 1
        max-length = 9
        [routes.own]
        queue = \"own\"
        plugin = \"p\"
        concurrency = 3
        [routes.other]
        from = \"o\"
        plugin = \"p\"
    ";
    let plain = config(source);
    assert_eq!(plain.default_exchange.as_str(), "bus");
    let bus = &plain.topology.exchanges["bus"];
    assert_eq!((bus.kind, bus.codec, bus.owned), (ExchangeKind::Direct, Codec::Ocelot, true));
    assert_eq!((queue(&plain, "other").ttl, queue(&plain, "other").prefetch), (Some(Duration::from_secs(3600)), 7));
    assert_eq!((route(&plain, "own").concurrency, route(&plain, "other").concurrency), (3, 2));
    assert_eq!(route(&plain, "other").emit.unroutable, Unroutable::Retry);

    let laid_over = config_with(
        source,
        &[
            ("QUEUE_TTL", "300000"),
            ("QUEUE_MAX_LENGTH", "100"),
            ("WORKER_PREFETCH_COUNT", "50"),
            ("WORKER_POOL_SIZE", "8"),
            ("DEFAULT_EXCHANGE", "others"),
            ("DEFAULT_EXCHANGE_TYPE", "fanout"),
        ],
    );
    let (own, other) = (queue(&laid_over, "own"), queue(&laid_over, "other"));
    assert_eq!((own.ttl, own.max_length, own.prefetch), (Some(Duration::from_secs(5)), Some(9), 1));
    assert_eq!((other.ttl, other.max_length, other.prefetch), (Some(Duration::from_secs(300)), Some(100), 50));
    assert_eq!((route(&laid_over, "own").concurrency, route(&laid_over, "other").concurrency), (3, 8));
    assert_eq!((queue(&laid_over, "other.dlq").ttl, queue(&laid_over, "other.dlq").max_length), (None, None));
    assert_eq!(laid_over.default_exchange.as_str(), "others");
    let others = &laid_over.topology.exchanges["others"];
    assert_eq!((others.kind, others.codec), (ExchangeKind::Fanout, Codec::Ocelot), "the environment says no codec");
    assert!(laid_over.topology.bindings.contains(&key("others", "other", "o")));
}

#[test]
fn state_directory_by_flag_file_and_environment() {
    let with_file = format!("state-dir = \"here\"\n{SMALLEST}");
    let both = [("STATE_DIRECTORY", "/var/lib/t:/var/lib/u"), ("XDG_STATE_HOME", "/xdg")];
    for (source, variables, expected) in [
        (SMALLEST, &both[..0], "/etc/trunkline/.trunkline"),
        (SMALLEST, &both[1..], "/etc/trunkline/.trunkline"),
        (SMALLEST, &both[..], "/var/lib/t"),
        (&with_file, &both[..], "/etc/trunkline/here"),
    ] {
        assert_eq!(config_with(source, variables).state_dir, Path::new(expected));
    }
    let earlier = |variables: &[_]| config_with(SMALLEST, variables).earlier_state_dir;
    assert_eq!(earlier(&both[..0]), Some("/home/user/.local/state/trunkline".into()));
    assert_eq!(earlier(&both[1..]), Some("/xdg/trunkline".into()));
    assert_eq!(earlier(&both[..]), None, "what was chosen is where it was");
    assert_eq!(earlier(&[("XDG_STATE_HOME", "relative")]), Some("/home/user/.local/state/trunkline".into()));
    let project = [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "/etc"), ("HOME", "")];
    assert_eq!(earlier(&project), Some("/etc/trunkline".into()));
    let flagged = loaded(&with_file, |sources| sources.state_dir = Some("/flag".into()));
    assert_eq!(flagged.config.state_dir, Path::new("/flag"));
    let relative = loaded(SMALLEST, |sources| sources.state_dir = Some("rel".into()));
    assert!(relative.config.state_dir.is_absolute() && relative.config.state_dir.ends_with("rel"));
}

#[test]
fn poll_is_for_rabbitmq() {
    let broker = |keys: &str| loaded(&format!("[broker]\n{keys}\n{SMALLEST}"), |_| {});
    for (keys, expected_s) in [("url = \"amqp://h\"", 15), ("url = \"amqp://h\"\npoll = \"2m\"", 120)] {
        let found = broker(keys);
        assert!(found.warnings.is_empty(), "{keys}");
        let BrokerChoice::Amqp(amqp) = found.config.broker else { panic!("{keys} is a broker") };
        assert_eq!(amqp.poll.as_secs(), expected_s, "{keys}");
    }
    let embedded = broker("poll = \"2m\"");
    assert_eq!(embedded.config.broker, BrokerChoice::Embedded);
    assert_eq!(embedded.warnings[0].code, Code::HalfBroker.as_str());
    let rejected = check("[broker]\npoll = \"0s\"\n", &sources("r.toml")).expect_err("too short");
    assert!(rejected.diagnostics.iter().any(|found| found.code == Code::OutOfBounds.as_str()));
}
