// Every key of the configuration as data: its name, what it may be, what it is for. The file, the
// environment, the flags, the checks and `ukehi serve --help` all read this one list.

/// One key.
package struct Setting: Sendable {
    /// Where a value goes.
    package typealias Property<Value> = any WritableKeyPath<Configuration, Value> & Sendable

    /// What a value may be, and which property it becomes.
    package enum Kind: Sendable {
        case text(Property<String>, Rule)
        case texts(Property<[String]>, Rule)
        case integer(Property<Int>, ClosedRange<Int>)
        case fraction(Property<Double>, ClosedRange<Double>)
        case boolean(Property<Bool>)
        /// One of these words, and what sets it.
        case choice([String], @Sendable (inout Configuration, String) -> Void)
    }

    /// What a text must look like.
    package enum Rule: Sendable {
        case name
        case directory
        /// `host:port`; whether port 0 and no text at all are allowed.
        case address(anyPort: Bool, optional: Bool)
    }

    package var section: String
    package var key: String
    package var kind: Kind
    /// One line for help texts.
    package var purpose: String

    /// `raft.max_log_mb`.
    package var path: String { "\(section).\(key)" }
    /// `UKEHI_RAFT_MAX_LOG_MB`.
    package var variable: String { "UKEHI_\(section)_\(key)".uppercased() }
    /// `--raft-max-log-mb`.
    package var flag: String {
        "--" + "\(section)-\(key)".map { $0 == "_" ? "-" : String($0) }.joined()
    }

    private init(_ section: String, _ key: String, _ kind: Kind, _ purpose: String) {
        self.section = section
        self.key = key
        self.kind = kind
        self.purpose = purpose
    }

    /// All keys, in the order of the documentation.
    package static let all: [Setting] = [
        Setting("cluster", "node_id", .text(\.cluster.nodeID, .name), "this node's name"),
        Setting(
            "cluster", "peers",
            .texts(\.cluster.peers, .address(anyPort: false, optional: false)),
            "the other nodes of a new cluster, host:port each; none: a cluster of one"),
        Setting(
            "cluster", "data_dir", .text(\.cluster.dataDirectory, .directory),
            "where the node keeps everything"),
        Setting(
            "cluster", "listen",
            .text(\.cluster.listen, .address(anyPort: true, optional: false)),
            "where peers and clients connect, host:port"),
        Setting(
            "cluster", "advertise",
            .text(\.cluster.advertise, .address(anyPort: false, optional: true)),
            "what others are told to connect to; empty: listen"),
        Setting(
            "raft", "election_timeout_ms",
            .integer(\.raft.electionTimeoutMilliseconds, 50...60_000),
            "a dead leader is replaced within about this time"),
        Setting(
            "raft", "heartbeat_interval_ms",
            .integer(\.raft.heartbeatIntervalMilliseconds, 5...10_000),
            "how often an idle leader speaks"),
        Setting(
            "raft", "max_log_entries", .integer(\.raft.maxLogEntries, 100...10_000_000),
            "entries kept for lagging peers, per region"),
        Setting(
            "raft", "max_log_mb", .integer(\.raft.maxLogMegabytes, 1...65_536),
            "the same in bytes"),
        Setting(
            "raft", "snapshot_interval", .integer(\.raft.snapshotInterval, 10...10_000_000),
            "applied entries between compactions of a region's log"),
        Setting(
            "raft", "snapshot_mb_per_second",
            .integer(\.raft.snapshotMegabytesPerSecond, 0...65_536),
            "how fast snapshots go to peers that lag; 0: as fast as they take them"),
        Setting(
            "raft", "max_unflushed_log_mb",
            .integer(\.raft.maxUnflushedLogMegabytes, 1...65_536),
            "log that may depend on an unflushed state store"),
        Setting(
            "sharding", "num_shards", .integer(\.sharding.shardCount, 1...4096),
            "regions a new cluster starts with"),
        Setting(
            "sharding", "rebalance_threshold",
            .fraction(\.sharding.rebalanceThreshold, 0.01...1),
            "imbalance that starts balancing"),
        Setting(
            "sharding", "split_threshold_mb",
            .integer(\.sharding.splitThresholdMegabytes, 16...1_048_576),
            "a larger region splits"),
        Setting(
            "sharding", "split_load_per_second",
            .integer(\.sharding.splitLoadPerSecond, 0...1_000_000_000),
            "operations a second with which a region splits; 0: never for its load"),
        Setting(
            "sharding", "merge_threshold_mb",
            .integer(\.sharding.mergeThresholdMegabytes, 0...524_288),
            "smaller neighbours merge; 0: never"),
        Setting(
            "storage", "state",
            .choice(Configuration.Storage.State.allCases.map(\.rawValue)) {
                if let state = Configuration.Storage.State(rawValue: $1) {
                    $0.storage.state = state
                }
            }, "where applied data lives"),
        Setting(
            "storage", "cache_mb", .integer(\.storage.cacheMegabytes, 8...1_048_576),
            "RocksDB's block cache"),
        Setting(
            "wal", "segment_mb", .integer(\.wal.segmentMegabytes, 16...1024),
            "size of a log file"),
        Setting(
            "wal", "compression_threshold_kb",
            .integer(\.wal.compressionThresholdKilobytes, 0...65_536),
            "longer runs of a region's entries are compressed; 0: never"),
        Setting(
            "wal", "scrub_mb_per_second",
            .integer(\.wal.scrubMegabytesPerSecond, 0...65_536),
            "how fast full log files are checked in the background; 0: not at all"),
        Setting(
            "wal", "on_damage",
            .choice(Configuration.WAL.OnDamage.allCases.map(\.rawValue)) {
                $0.wal.onDamage = Configuration.WAL.OnDamage(rawValue: $1)
            },
            "what becomes of entries that the log cannot read; not set: repair with peers, refuse "
                + "alone"),
        Setting(
            "wal", "unsafe_no_fsync", .boolean(\.wal.unsafeNoFsync),
            "acknowledge what a power cut may lose; for measuring only"),
        Setting(
            "runtime", "lanes", .integer(\.runtime.lanes, 0...64),
            "event loops; 0: one per two cores"),
    ]

    /// What may stand there, for a person.
    package var allowed: String {
        switch kind {
        case .text(_, .name): "1 to 64 letters, digits, '-', '_' or '.'"
        case .text(_, .directory): "a path"
        case .text(_, .address(_, optional: true)): "host:port, or nothing"
        case .text(_, .address(anyPort: true, _)): "host:port, port 0 to 65535"
        case .text(_, .address): "host:port, port 1 to 65535"
        case .texts: "a list of host:port, ports 1 to 65535"
        case .integer(_, let range): "an integer from \(range.lowerBound) to \(range.upperBound)"
        case .fraction(_, let range): "a number from \(range.lowerBound) to \(range.upperBound)"
        case .boolean: "true or false"
        case .choice(let words, _): words.map { "\"\($0)\"" }.joined(separator: ", ")
        }
    }

    /// The fault of the value in `configuration`, if it has one.
    func check(_ configuration: Configuration) -> ConfigurationError.Problem? {
        let reason: String? =
            switch kind {
            case .text(let path, let rule): rule.fault(of: configuration[keyPath: path])
            case .texts(let path, let rule):
                configuration[keyPath: path].lazy.compactMap { rule.fault(of: $0) }.first
            case .integer(let path, let range):
                range.contains(configuration[keyPath: path])
                    ? nil : "\(configuration[keyPath: path]) is out of range"
            case .fraction(let path, let range):
                range.contains(configuration[keyPath: path])
                    ? nil : "\(configuration[keyPath: path]) is out of range"
            case .boolean, .choice: nil
            }
        return reason.map { .init(path: self.path, reason: $0, allowed: allowed) }
    }
}

extension Setting.Rule {
    /// What is wrong with `text`, if anything is.
    func fault(of text: String) -> String? {
        switch self {
        case .name:
            let plain = text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
                    UInt8(ascii: "."):
                    true
                default: false
                }
            }
            return plain && (1...64).contains(text.utf8.count) ? nil : "\"\(text)\" is no name"
        case .directory:
            return text.isEmpty || text.utf8.contains(0) ? "\"\(text)\" is no path" : nil
        case .address(let anyPort, let optional):
            if text.isEmpty { return optional ? nil : "an address is missing" }
            guard let address = EndpointText(text) else { return "\"\(text)\" is no host:port" }
            return address.port == 0 && !anyPort ? "\"\(text)\" has no port to call" : nil
        }
    }
}

/// An address as text: `host:port`, or `[ipv6]:port`.
package struct EndpointText: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: Int

    /// Nil when `text` is not one.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let port = Int(digits), (0...65_535).contains(port)
        else { return nil }
        if host.first == "[", host.last == "]" {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        // 255 bytes is the longest name that DNS knows.
        guard (1...255).contains(host.utf8.count),
            host.unicodeScalars.allSatisfy({ $0.isASCII && $0.value > 0x20 && $0 != "/" })
        else { return nil }
        self.host = String(host)
        self.port = port
    }

    /// Whether it names every interface, which nobody can connect to.
    package var isWildcard: Bool { host == "0.0.0.0" || host == "::" }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

extension Configuration {
    /// Faults of values that are fine one by one.
    func combinationProblems() -> [ConfigurationError.Problem] {
        var problems: [ConfigurationError.Problem] = []
        if raft.heartbeatIntervalMilliseconds * 4 > raft.electionTimeoutMilliseconds {
            // Candidates start at half the timeout; one lost heartbeat must not make one.
            problems.append(
                .init(
                    path: "raft.heartbeat_interval_ms",
                    reason:
                        "\(raft.heartbeatIntervalMilliseconds) ms beside an election timeout of "
                        + "\(raft.electionTimeoutMilliseconds) ms makes leaders fall without cause",
                    allowed: "at most a quarter of raft.election_timeout_ms"))
        }
        if sharding.mergeThresholdMegabytes * 2 > sharding.splitThresholdMegabytes {
            problems.append(
                .init(
                    path: "sharding.merge_threshold_mb",
                    reason: "regions just split would merge again",
                    allowed: "at most half of sharding.split_threshold_mb"))
        }
        if Set(cluster.peers).count != cluster.peers.count {
            problems.append(.init(path: "cluster.peers", reason: "an address is listed twice"))
        }
        let own = [cluster.listen, cluster.advertise]
        if cluster.peers.contains(where: { own.contains($0) }) {
            problems.append(
                .init(
                    path: "cluster.peers", reason: "the node's own address is in the list",
                    allowed: "the addresses of the other nodes"))
        }
        if !cluster.peers.isEmpty, cluster.advertise.isEmpty,
            let listen = EndpointText(cluster.listen)
        {
            if listen.isWildcard {
                problems.append(
                    .init(
                        path: "cluster.advertise",
                        reason: "peers cannot connect to \"\(cluster.listen)\"",
                        allowed: "the host:port under which they reach this node"))
            }
            if listen.port == 0 {
                problems.append(
                    .init(
                        path: "cluster.listen", reason: "peers cannot guess a free port",
                        allowed: "a fixed port, or cluster.advertise"))
            }
        }
        return problems
    }
}
