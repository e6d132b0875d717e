#if RocksDB

    import Foundation
    import Testing
    import Ukehi
    import UkehiBase
    import UkehiEnvironment
    import UkehiNode
    import UkehiPOSIX
    import UkehiState
    import UkehiWAL
    import _UkehiTestSupport

    /// `ukehi snapshot` on directories that nodes made.
    @Suite("Command line: snapshots", .prompt, .timeLimit(.minutes(2)))
    struct SnapshotToolTests {
        private static let count = 300

        private static func configuration(_ directory: String) -> Configuration {
            var configuration = Configuration(directory: directory)
            configuration.wal.segmentMegabytes = 16
            configuration.sharding.shardCount = 4
            return configuration
        }

        private static func key(_ number: Int) -> Bytes {
            Bytes([UInt8(truncatingIfNeeded: number)] + Array("/secret-\(number)".utf8))
        }

        private static func value(_ number: Int) -> Bytes {
            Bytes(String(repeating: "secret value \(number) ", count: number % 40))
        }

        /// A directory of a node that was stopped, and one for what is made of it.
        private func withNode(_ body: (_ data: String, _ out: String) async throws -> Void)
            async throws
        {
            try await withTemporaryDirectory { directory async throws in
                let data = directory + "/data"
                let node = try await Node.start(configuration: Self.configuration(data))
                for number in 0..<Self.count {
                    try await node.put(Self.key(number), Self.value(number))
                }
                await node.stop()
                try await body(data, directory + "/out")
            }
        }

        private func run(_ arguments: String...) throws -> Outcome {
            let outcome = try ukehi(["snapshot"] + arguments)
            #expect(!outcome.output.contains("secret"), "\(arguments)")
            #expect(!outcome.errors.contains("secret"), "\(arguments)")
            return outcome
        }

        /// The pairs of a snapshot file.
        private func pairs(_ path: String) throws -> [Bytes: Bytes] {
            let file = try POSIXFileSystem().open(path, .read)
            defer { file.close() }
            let reader = try SnapshotFileReader(file)
            var pairs: [Bytes: Bytes] = [:]
            while let frame = try reader.next() {
                frame.forEachPair { pairs[Bytes(copying: $0.key)] = Bytes(copying: $0.value) }
            }
            return pairs
        }

        /// The files of a data directory, but for RocksDB's diary.
        private func contents(_ directory: String) throws -> [String: Data] {
            var contents: [String: Data] = [:]
            for name in try FileManager.default.subpathsOfDirectory(atPath: directory)
            where !name.hasPrefix("state/LOG") {
                contents[name] = try? Data(contentsOf: URL(filePath: directory + "/" + name))
            }
            return contents
        }

        private func names(_ directory: String) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
        }

        @Test("export writes what the node holds; the node goes on afterwards")
        func export() async throws {
            try await withNode { data, out in
                let before = try contents(data)
                let outcome = try run("export", data, "--out-dir", out)
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(try contents(data) == before)
                #expect(outcome.output.split(separator: "\n").count == 4)
                #expect(!outcome.output.contains("the log goes on"), "\(outcome.output)")
                let files = try names(out)
                #expect(files == (2...5).map { "region-\($0).snapshot" })
                var found: [Bytes: Bytes] = [:]
                for file in files {
                    #expect(try run("verify", "\(out)/\(file)").status == 0)
                    found.merge(try pairs("\(out)/\(file)")) { _, _ in
                        Issue.record("a key in two regions")
                        return ""
                    }
                }
                #expect(found.count == Self.count)
                for number in 0..<Self.count {
                    #expect(found[Self.key(number)] == Self.value(number))
                }

                let node = try await Node.start(configuration: Self.configuration(data))
                #expect(try await node.get(Self.key(7))?.value == Self.value(7))
                let running = try run("export", data, "--out-dir", out + "-2")
                #expect(running.status == 24)
                #expect(running.errors.contains("is running"))
                #expect(!FileManager.default.fileExists(atPath: out + "-2"))
                await node.stop()
            }
        }

        @Test("a region that is not here yet is passed over and named; the others are whole")
        func absentRegion() async throws {
            try await withNode { data, out in
                // As if a leader had just introduced a peer here, and its node had been stopped.
                let (log, _) = try WriteAheadLog.open(
                    fileSystem: POSIXFileSystem(), directory: data + "/wal", options: WALOptions(),
                    random: SystemRandomSource(), clock: SystemClock())
                log.start(durable: { _, _ in }, failed: { _ in })
                let region = RegionDescriptor(
                    region: RegionID(99), isSystem: false,
                    range: KeyRange(lower: "x", upper: "y"),
                    epoch: RegionEpoch(confVersion: 2, version: 1),
                    peers: [PeerDescriptor(peer: PeerID(500), node: NodeID(9), roles: .voter)])
                var batch = LogBatch()
                batch.birth(
                    region: RegionID(99),
                    payload: RegionBirth(origin: region, introduction: region).encoded(),
                    hardState: .empty)
                _ = log.waitUntilDurable(try log.submit(&batch, lane: 0))
                log.stop()
                let outcome = try run("export", data, "--out-dir", out)
                #expect(outcome.status == 69)
                #expect(outcome.errors.contains("region 99"), "\(outcome.errors)")
                #expect(try names(out) == (2...5).map { "region-\($0).snapshot" })
                for file in try names(out) {
                    #expect(try run("verify", "\(out)/\(file)").status == 0)
                }
            }
        }

        @Test("one region to one file; nothing is replaced; what cannot be is said")
        func oneRegion() async throws {
            try await withNode { data, out in
                let file = out + ".snapshot"
                let outcome = try run("export", data, "--region", "3", "--out", file, "--json")
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.output.contains("\"region\":3,"))
                #expect(outcome.output.contains("\"roles\":[\"voter\"]"))
                let before = try Data(contentsOf: URL(filePath: file))
                #expect(try run("export", data, "--region", "3", "--out", file).status == 64)
                #expect(try Data(contentsOf: URL(filePath: file)) == before)

                let ambiguous = try run("export", data, "--out", out)
                #expect(ambiguous.status == 64)
                #expect(ambiguous.errors.contains("2, 3, 4, 5"))
                #expect(try run("export", data, "--region", "9", "--out", out).status == 64)
                #expect(try run("export", data).status == 64)
                #expect(try run("export", data, "--out", out, "--out-dir", out).status == 64)
                #expect(try run("export", data + "-nowhere", "--out-dir", out).status == 64)
                #expect(!FileManager.default.fileExists(atPath: data + "-nowhere"))
                #expect(!FileManager.default.fileExists(atPath: out))
            }
        }

        @Test("a node without state on disk is told apart")
        func memory() async throws {
            try await withTemporaryDirectory { directory async throws in
                var configuration = Self.configuration(directory + "/data")
                configuration.storage.state = .memory
                let node = try await Node.start(configuration: configuration)
                await node.stop()
                let outcome = try run(
                    "export", directory + "/data", "--out-dir", directory + "/out")
                #expect(outcome.status == 78)
                #expect(outcome.errors.contains("has no state on disk"))
            }
        }

        @Test("of state in memory the kept snapshot is copied, and makes a node again")
        func keptSnapshots() async throws {
            try await withTemporaryDirectory { directory async throws in
                let data = directory + "/data"
                var configuration = Self.configuration(data)
                configuration.storage.state = .memory
                configuration.sharding.shardCount = 1
                configuration.raft.snapshotInterval = 10
                let node = try await Node.start(configuration: configuration)
                try await eventually("a snapshot is kept") {
                    for number in 0..<100 {
                        try await node.put(Self.key(number), Self.value(number))
                    }
                    let names =
                        (try? FileManager.default.contentsOfDirectory(
                            atPath: data + "/snapshots")) ?? []
                    return names.contains {
                        $0.hasPrefix("kept-2-") && !$0.hasSuffix(".partial")
                    }
                }
                await node.stop()
                let outcome = try run("export", data, "--out-dir", directory + "/out")
                #expect(outcome.status == 0, "\(outcome.errors)")
                let file = directory + "/out/region-2.snapshot"
                #expect(try run("verify", file).status == 0)
                let found = try pairs(file)
                #expect(!found.isEmpty)
                configuration = Self.configuration(directory + "/new")
                let made = try run(
                    "import", directory + "/out", "--data-dir", directory + "/new",
                    "--storage-state", "memory")
                #expect(made.status == 0, "\(made.errors)")
                configuration.storage.state = .memory
                let again = try await Node.start(configuration: configuration)
                let page = try await again.scan(from: "", to: nil, limit: 1000)
                await again.stop()
                let restored = Dictionary(
                    uniqueKeysWithValues: page.pairs.map { ($0.key, $0.value) })
                #expect(restored == found)
                // A byte of it is changed: nothing comes of it.
                let kept = try names(data + "/snapshots").filter { $0.hasPrefix("kept-2-") }
                for name in kept {
                    let path = data + "/snapshots/" + name
                    var bytes = try Data(contentsOf: URL(filePath: path))
                    bytes[bytes.count / 2] ^= 1
                    try bytes.write(to: URL(filePath: path))
                }
                let damaged = try run("export", data, "--out-dir", directory + "/bad")
                #expect(damaged.status == 20, "\(damaged.errors)")
                #expect(try names(directory + "/bad").isEmpty)
            }
        }

        @Test(
            "inspect shows header and frames; verify finds damage, names it, and says what is lost")
        func readers() async throws {
            try await withNode { data, out in
                #expect(try run("export", data, "--out-dir", out).status == 0)
                let path = out + "/region-2.snapshot"
                let text = try run("inspect", path)
                #expect(text.status == 0 && text.errors.isEmpty)
                for part in ["region 2, epoch 1.1", "index ", "voter", "FRAME", "1 frames with"] {
                    #expect(text.output.contains(part), "\(part) in \(text.output)")
                }
                let objects = try run("inspect", path, "--json").output.split(separator: "\n")
                #expect(objects.first?.hasPrefix("{\"type\":\"frame\",\"frame\":0,") == true)
                #expect(objects.last?.hasSuffix("\"problem\":null}") == true)
                let sound = try run("verify", path, "--json")
                #expect(sound.output.hasPrefix("{\"sound\":true,"))

                var bytes = try Data(contentsOf: URL(filePath: path))
                let whole = bytes
                bytes[bytes.count - 60] ^= 1
                try bytes.write(to: URL(filePath: path))
                let damaged = try run("verify", path)
                #expect(damaged.status == 20)
                #expect(damaged.errors.contains("(frame 0, offset "))
                #expect(damaged.output.contains("lost: frame 0 at offset "))
                let object = try run("verify", path, "--json")
                #expect(object.status == 20 && object.errors.isEmpty)
                #expect(object.output.contains("\"lost_frames\":[{\"frame\":0,"))

                try whole.dropLast(20).write(to: URL(filePath: path))
                let cut = try run("inspect", path)
                #expect(cut.status == 20)
                #expect(cut.errors.contains("cut short"))
                #expect(try run("inspect", path + "-nowhere").status == 64)
                try Data("no snapshot".utf8).write(to: URL(filePath: path))
                #expect(try run("verify", path).status == 20)
            }
        }
    }

#endif
