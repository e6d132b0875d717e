import Testing

@testable import Ukehi

@Suite("Configuration")
struct ConfigurationTests {
    /// The paths and reasons of the faults that loading finds.
    private func problems(
        _ text: String, environment: [String: String] = [:], flags: [String: String] = [:]
    ) -> [ConfigurationError.Problem] {
        do throws(ConfigurationError) {
            _ = try Configuration.load(
                text: text, source: "node.toml", environment: environment, flags: flags)
            return []
        } catch { return error.problems }
    }

    @Test("an empty file gives the documented defaults")
    func defaults() throws {
        let configuration = try Configuration.load(text: "")
        #expect(configuration == Configuration())
        #expect(configuration.cluster.nodeID == "node-1")
        #expect(configuration.cluster.dataDirectory == "./data")
        #expect(configuration.raft.electionTimeoutMilliseconds == 1000)
        #expect(configuration.raft.heartbeatIntervalMilliseconds == 100)
        #expect(configuration.raft.maxLogEntries == 10_000)
        #expect(configuration.raft.maxLogMegabytes == 64)
        #expect(configuration.raft.snapshotInterval == 1000)
        #expect(configuration.raft.maxUnflushedLogMegabytes == 256)
        #expect(configuration.sharding.shardCount == 16)
        #expect(configuration.sharding.rebalanceThreshold == 0.2)
        #expect(configuration.sharding.splitThresholdMegabytes == 512)
        #expect(configuration.sharding.splitLoadPerSecond == 10_000)
        #expect(configuration.sharding.mergeThresholdMegabytes == 64)
    }

    @Test("the defaults and the embedded single node pass the checks")
    func defaultsAreValid() throws {
        try Configuration().validate()
        try Configuration(directory: "somewhere").validate()
    }

    @Test("every key is read from a file")
    func everyKey() throws {
        let text = """
            [cluster]
            node_id = "a.b-c_9"
            peers = ["node-2:7878", "[::1]:7879"]
            data_dir = "/srv/ukehi"
            listen = "0.0.0.0:1"
            advertise = "node-1:1"
            [raft]
            election_timeout_ms = 400
            heartbeat_interval_ms = 50
            max_log_entries = 5000
            max_log_mb = 32
            snapshot_interval = 500
            snapshot_mb_per_second = 64
            max_unflushed_log_mb = 128
            [sharding]
            num_shards = 48
            rebalance_threshold = 0.5
            split_threshold_mb = 256
            split_load_per_second = 0
            merge_threshold_mb = 32
            [storage]
            state = "memory"
            cache_mb = 64
            [wal]
            segment_mb = 64
            compression_threshold_kb = 0
            scrub_mb_per_second = 0
            on_damage = "refuse"
            unsafe_no_fsync = true
            [runtime]
            lanes = 2
            """
        var wanted = Configuration()
        wanted.cluster.nodeID = "a.b-c_9"
        wanted.cluster.peers = ["node-2:7878", "[::1]:7879"]
        wanted.cluster.dataDirectory = "/srv/ukehi"
        wanted.cluster.listen = "0.0.0.0:1"
        wanted.cluster.advertise = "node-1:1"
        wanted.raft.electionTimeoutMilliseconds = 400
        wanted.raft.heartbeatIntervalMilliseconds = 50
        wanted.raft.maxLogEntries = 5000
        wanted.raft.maxLogMegabytes = 32
        wanted.raft.snapshotInterval = 500
        wanted.raft.snapshotMegabytesPerSecond = 64
        wanted.raft.maxUnflushedLogMegabytes = 128
        wanted.sharding.shardCount = 48
        wanted.sharding.rebalanceThreshold = 0.5
        wanted.sharding.splitThresholdMegabytes = 256
        wanted.sharding.splitLoadPerSecond = 0
        wanted.sharding.mergeThresholdMegabytes = 32
        wanted.storage.state = .memory
        wanted.storage.cacheMegabytes = 64
        wanted.wal.segmentMegabytes = 64
        wanted.wal.compressionThresholdKilobytes = 0
        wanted.wal.scrubMegabytesPerSecond = 0
        wanted.wal.onDamage = .refuse
        wanted.wal.unsafeNoFsync = true
        wanted.runtime.lanes = 2
        #expect(try Configuration.load(text: text) == wanted)
        for setting in Setting.all {
            #expect(text.contains("\(setting.key) = "), "\(setting.path)")
        }
    }

    @Test("flags win over the environment, which wins over the file")
    func precedence() throws {
        let text = "[raft]\nmax_log_mb = 1\nmax_log_entries = 1000\nsnapshot_interval = 100"
        let environment = [
            "UKEHI_RAFT_MAX_LOG_ENTRIES": "2000", "UKEHI_RAFT_SNAPSHOT_INTERVAL": "200",
            "UKEHI_CLUSTER_PEERS": "a:1, b:2", "UKEHI_STORAGE_STATE": "none",
            "UKEHI_WAL_UNSAFE_NO_FSYNC": "true", "PATH": "/bin", "UKEHI_ETCD_RAFT_DATA": "x",
        ]
        let loaded = try Configuration.load(
            text: text, environment: environment, flags: ["raft.snapshot_interval": "300"])
        #expect(loaded.raft.maxLogMegabytes == 1)
        #expect(loaded.raft.maxLogEntries == 2000)
        #expect(loaded.raft.snapshotInterval == 300)
        #expect(loaded.cluster.peers == ["a:1", "b:2"])
        #expect(loaded.storage.state == .none)
        #expect(loaded.wal.unsafeNoFsync)
    }

    @Test(
        "what becomes of damage is said in a file, in the environment or by a flag, or not at all")
    func onDamage() throws {
        let file = "[wal]\non_damage = \"repair\""
        let environment = ["UKEHI_WAL_ON_DAMAGE": "refuse"]
        let flags = ["wal.on_damage": "repair"]
        #expect(try Configuration.load(text: "").wal.onDamage == nil)
        #expect(try Configuration.load(text: file).wal.onDamage == .repair)
        #expect(try Configuration.load(text: "", environment: environment).wal.onDamage == .refuse)
        #expect(try Configuration.load(text: "", flags: flags).wal.onDamage == .repair)
        #expect(
            try Configuration.load(text: file, environment: environment).wal.onDamage == .refuse)
        #expect(
            try Configuration.load(text: "", environment: environment, flags: flags).wal.onDamage
                == .repair)
    }

    @Test("any other word for what becomes of damage is refused")
    func onDamageUnknown() {
        let allowed = "allowed: \"repair\", \"refuse\""
        #expect(
            problems(
                "[wal]\non_damage = \"ignore\"", environment: ["UKEHI_WAL_ON_DAMAGE": ""],
                flags: ["wal.on_damage": "Repair"]
            ).map(\.description) == [
                "wal.on_damage (node.toml): \"ignore\" is unknown; " + allowed,
                "wal.on_damage (UKEHI_WAL_ON_DAMAGE): \"\" is unknown; " + allowed,
                "wal.on_damage (--wal-on-damage): \"Repair\" is unknown; " + allowed,
            ])
        #expect(
            problems("[wal]\non_damage = true").map(\.description) == [
                "wal.on_damage (node.toml): a value of the wrong type (bool); " + allowed
            ])
    }

    @Test("all faults are told at once, each with its key, its place and what is allowed")
    func allAtOnce() {
        let text = """
            [cluster]
            node_id = 7
            peers = ["node-2"]
            [raft]
            election_timeout_ms = "fast"
            heartbeat_interval_ms = 0
            max_log_mbs = 3
            [sharding]
            rebalance_threshold = 7.5
            [storage]
            state = "sqlite"
            [shards]
            count = 1
            """
        let found = problems(
            text, environment: ["UKEHI_RAFT_MAX_LOG_MB": "many", "UKEHI_WAL_SEGMENTS_MB": "1"],
            flags: ["runtime.lane": "2"])
        #expect(
            found.map(\.description) == [
                "cluster.node_id (node.toml): a value of the wrong type (integer); "
                    + "allowed: 1 to 64 letters, digits, '-', '_' or '.'",
                "cluster.peers (node.toml): \"node-2\" is no host:port; "
                    + "allowed: a list of host:port, ports 1 to 65535",
                "raft.election_timeout_ms (node.toml): a value of the wrong type (string); "
                    + "allowed: an integer from 50 to 60000",
                "raft.heartbeat_interval_ms (node.toml): 0 is out of range; "
                    + "allowed: an integer from 5 to 10000",
                "raft.max_log_mbs (node.toml): there is no such key; "
                    + "did you mean raft.max_log_mb?",
                "sharding.rebalance_threshold (node.toml): 7.5 is out of range; "
                    + "allowed: a number from 0.01 to 1.0",
                "shards (node.toml): there is no such section",
                "storage.state (node.toml): \"sqlite\" is unknown; "
                    + "allowed: \"rocksdb\", \"memory\", \"none\"",
                "raft.max_log_mb (UKEHI_RAFT_MAX_LOG_MB): \"many\" is no integer; "
                    + "allowed: an integer from 1 to 65536",
                "UKEHI_WAL_SEGMENTS_MB: no such key; did you mean UKEHI_WAL_SEGMENT_MB?",
                "runtime.lane (flag): there is no such key; did you mean runtime.lanes?",
            ])
    }

    @Test(
        "values that are fine alone and impossible together are refused",
        arguments: [
            ("[raft]\nelection_timeout_ms = 300", "raft.heartbeat_interval_ms"),
            (
                "[sharding]\nsplit_threshold_mb = 100\nmerge_threshold_mb = 60",
                "sharding.merge_threshold_mb"
            ),
            ("[cluster]\npeers = [\"a:1\", \"a:1\"]", "cluster.peers"),
            ("[cluster]\nlisten = \"a:1\"\npeers = [\"a:1\"]", "cluster.peers"),
            ("[cluster]\nlisten = \"0.0.0.0:1\"\npeers = [\"a:1\"]", "cluster.advertise"),
            ("[cluster]\nlisten = \"b:0\"\npeers = [\"a:1\"]", "cluster.listen"),
        ])
    func combinations(text: String, path: String) {
        #expect(problems(text).map(\.path) == [path])
    }

    @Test("a syntax error names its line")
    func syntax() {
        let found = problems("[raft]\nmax_log_mb = = 3\n")
        #expect(found.count == 1)
        #expect(found.first?.source == "node.toml")
        #expect(found.first?.reason.hasPrefix("line 2, column ") == true)
    }

    @Test("a file that is not there is named")
    func missingFile() {
        do throws(ConfigurationError) {
            _ = try Configuration.load(file: "no/such/file.toml")
            Issue.record("it loaded")
        } catch {
            #expect(error.problems.map(\.source) == ["no/such/file.toml"])
        }
    }

    @Test("values set in code pass the same checks")
    func code() {
        var configuration = Configuration()
        configuration.cluster.nodeID = ""
        configuration.cluster.dataDirectory = ""
        configuration.raft.maxLogEntries = -1
        #expect {
            try configuration.validate()
        } throws: { error in
            (error as? ConfigurationError)?.problems.map(\.path) == [
                "cluster.node_id", "cluster.data_dir", "raft.max_log_entries",
            ]
        }
    }

    @Test(
        "addresses", arguments: ["", "a", "a:", ":1", "a:65536", "a:-1", "a b:1", "::1:2", "a:1x"])
    func notAddresses(text: String) { #expect(EndpointText(text) == nil) }

    @Test("addresses with names, numbers and brackets")
    func addresses() {
        #expect(EndpointText("node-1:7878")?.port == 7878)
        #expect(EndpointText("[::1]:0")?.host == "::1")
        #expect(EndpointText("[::1]:5")?.description == "[::1]:5")
    }
}
