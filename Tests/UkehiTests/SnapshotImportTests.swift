#if RocksDB

    import Foundation
    import Testing
    import Ukehi
    import UkehiBase
    import UkehiNode
    import UkehiState
    import _UkehiTestSupport

    /// `ukehi snapshot export` and `import`: a node that comes back from its backup.
    @Suite("Command line: backup and restore", .prompt, .timeLimit(.minutes(2)))
    struct SnapshotImportTests {
        private static let count = 400

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

        private func run(_ arguments: String...) throws -> Outcome {
            let outcome = try ukehi(["snapshot"] + arguments)
            #expect(!outcome.output.contains("secret"), "\(arguments)")
            #expect(!outcome.errors.contains("secret"), "\(arguments)")
            return outcome
        }

        private func restore(_ backup: String, _ data: String, _ more: String...) throws -> Outcome
        {
            let outcome = try ukehi(
                ["snapshot", "import", backup, "--data-dir", data, "--wal-segment-mb", "16"] + more)
            #expect(!outcome.errors.contains("secret"))
            return outcome
        }

        private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

        /// A stopped node's directory, its backup, and a directory for what is made of it.
        private func withBackup(
            _ body: (_ data: String, _ backup: String, _ new: String) async throws -> Void
        ) async throws {
            try await withTemporaryDirectory { directory async throws in
                let data = directory + "/data"
                let node = try await Node.start(configuration: Self.configuration(data))
                for number in 0..<Self.count {
                    try await node.put(Self.key(number), Self.value(number))
                }
                try await node.delete(Self.key(3))
                await node.stop()
                let backup = directory + "/backup"
                #expect(try run("export", data, "--out-dir", backup).status == 0)
                try await body(data, backup, directory + "/new")
            }
        }

        /// The digests of a stopped node's regions.
        private func digests(_ directory: String) throws -> [RegionDigest] {
            let state = try Self.configuration(directory).openState()
            defer { state.close() }
            let ranges = StaticRanges.ranges(count: 4)
            return try ranges.enumerated().map { position, range in
                let region = RegionID(UInt64(position + 2))
                let applied = try state.open(
                    region: region, system: false, range: range,
                    epoch: RegionEpoch(confVersion: 1, version: 1))
                let digest = try state.digest(region: region)
                #expect(digest.applied == applied && applied > .zero)
                return digest
            }
        }

        @Test("what was exported is there again, every pair and every region's digest, and goes on")
        func backupAndRestore() async throws {
            try await withBackup { data, backup, new in
                let outcome = try restore(backup, new)
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.output.contains("4 regions, \(Self.count - 1) keys"))
                #expect(try digests(new) == digests(data))
                let digest = try #require(try digests(new).first)
                let verified = try run("verify", backup + "/region-2.snapshot", "--json").output
                let hexadecimal = [digest.high, digest.low].map { half in
                    let text = String(half, radix: 16)
                    return String(repeating: "0", count: 16 - text.count) + text
                }
                #expect(verified.contains("\"digest\":\"\(hexadecimal.joined())\""))

                // Twice, since the second start replays what the first one wrote behind the snapshots.
                for round in 0..<2 {
                    let node = try await Node.start(configuration: Self.configuration(new))
                    var found: [Bytes: Bytes] = [:]
                    let page = try await node.scan(from: "", to: nil, limit: 10_000)
                    for pair in page.pairs { found[pair.key] = pair.value }
                    #expect(page.next == nil)
                    #expect(found.count == Self.count - 1 + round)
                    for number in 0..<Self.count {
                        #expect(found[Self.key(number)] == (number == 3 ? nil : Self.value(number)))
                    }
                    try await node.put("new", "value")
                    await node.stop()
                }
                // The new node's own backup comes back, too.
                #expect(try run("export", new, "--out-dir", backup + "-2").status == 0)
                #expect(try restore(backup + "-2", new + "-2").status == 0)
            }
        }

        @Test("one region alone comes back where that is wanted, and the other keys begin empty")
        func oneRegion() async throws {
            try await withBackup { _, backup, new in
                for region in [2, 4, 5] {
                    try FileManager.default.removeItem(
                        atPath: "\(backup)/region-\(region).snapshot")
                }
                let refused = try restore(backup, new)
                #expect(refused.status == 64)
                #expect(refused.errors.contains("--fill-missing"), "\(refused.errors)")
                #expect(!exists(new))
                let outcome = try restore(backup, new, "--fill-missing")
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.output.contains("2 regions more begin empty"), "\(outcome.output)")
                let range = StaticRanges.ranges(count: 4)[1]
                let own = (0..<Self.count).filter { $0 != 3 && range.contains(Self.key($0)) }
                for round in 0..<2 {
                    let node = try await Node.start(configuration: Self.configuration(new))
                    let page = try await node.scan(from: "", to: nil, limit: 10_000)
                    #expect(page.next == nil)
                    let kept = page.pairs.filter { range.contains($0.key) }
                    #expect(kept.count == own.count && !own.isEmpty)
                    for number in own {
                        let found = kept.first { $0.key == Self.key(number) }
                        #expect(found?.value == Self.value(number))
                    }
                    #expect(page.pairs.count == own.count + 2 * round)
                    // Below what was there, and above it.
                    for key: Bytes in [Bytes([0]), Bytes([0xff])] { try await node.put(key, "v") }
                    await node.stop()
                }
            }
        }

        @Test("a node whose state is in memory is made of a backup, too, and goes on")
        func restoreToMemory() async throws {
            try await withBackup { _, backup, new in
                let outcome = try restore(backup, new, "--storage-state", "memory")
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.output.contains("4 regions, \(Self.count - 1) keys"))
                #expect(!exists(new + "/state"))
                var configuration = Self.configuration(new)
                configuration.storage.state = .memory
                for round in 0..<2 {
                    let node = try await Node.start(configuration: configuration)
                    let page = try await node.scan(from: "", to: nil, limit: 10_000)
                    #expect(page.pairs.count == Self.count - 1 + round)
                    for number in 0..<Self.count {
                        let found = try await node.get(Self.key(number))?.value
                        #expect(found == (number == 3 ? nil : Self.value(number)))
                    }
                    try await node.put("new", "value")
                    await node.stop()
                }
            }
        }

        @Test("a new cluster under a new id, told as JSON; the node is the one that was named")
        func identity() async throws {
            try await withBackup { data, backup, new in
                let outcome = try restore(backup, new, "--cluster-node-id", "other", "--json")
                #expect(outcome.status == 0, "\(outcome.errors)")
                let lines = outcome.output.split(separator: "\n")
                #expect(lines.count == 5)
                #expect(lines[0].hasPrefix("{\"type\":\"snapshot\",\"path\":"))
                let sum = try #require(lines.last)
                #expect(sum.hasPrefix("{\"type\":\"import\",\"cluster\":\""))
                #expect(sum.contains("\"node\":\"other\""))
                let old = lines[0].split(separator: ",").first { $0.hasPrefix("\"cluster\"") }
                #expect(!sum.contains(try #require(old)))
                await #expect(throws: NodeError.self) {
                    try await Node.start(configuration: Self.configuration(new)).stop()
                }
                var configuration = Self.configuration(new)
                configuration.cluster.nodeID = "other"
                let node = try await Node.start(configuration: configuration)
                #expect(try await node.get(Self.key(7))?.value == Self.value(7))
                await node.stop()
            }
        }

        @Test("damaged, cut and missing snapshots are refused, and nothing is left behind")
        func damage() async throws {
            try await withBackup { _, backup, new in
                let path = URL(filePath: backup + "/region-4.snapshot")
                let whole = try Data(contentsOf: path)
                func refused(_ status: Int32, _ words: String) throws {
                    let outcome = try restore(backup, new)
                    #expect(outcome.status == status, "\(outcome.errors)")
                    #expect(outcome.errors.contains(words), "\(outcome.errors)")
                    #expect(!exists(new))
                }
                var flipped = whole
                flipped[flipped.count - 60] ^= 1
                try flipped.write(to: path)
                try refused(20, "region-4.snapshot: The snapshot is damaged")
                try whole.dropLast(20).write(to: path)
                try refused(20, "cut short")
                try Data("no snapshot".utf8).write(to: path)
                try refused(20, "region-4.snapshot")
                try FileManager.default.removeItem(at: path)
                try refused(64, "a snapshot is missing")
                try whole.write(to: path)
                try whole.write(to: URL(filePath: backup + "/copy.snapshot"))
                try refused(64, "region")
                try FileManager.default.removeItem(atPath: backup + "/copy.snapshot")
                try FileManager.default.removeItem(atPath: backup + "/region-5.snapshot")
                try refused(64, "a snapshot is missing")
                try FileManager.default.removeItem(atPath: backup + "/region-2.snapshot")
                try refused(64, "a snapshot is missing")
            }
        }

        @Test("snapshots of several clusters, and overlapping ones, are refused")
        func mixed() async throws {
            try await withBackup { _, backup, new in
                let other = new + "-other"
                var configuration = Self.configuration(other)
                configuration.sharding.shardCount = 3
                let node = try await Node.start(configuration: configuration)
                try await node.put("k", "v")
                await node.stop()
                #expect(try run("export", other, "--out-dir", other + "-backup").status == 0)
                let foreign = other + "-backup/region-3.snapshot"
                try FileManager.default.moveItem(atPath: foreign, toPath: backup + "/x.snapshot")
                let outcome = try restore(backup, new)
                #expect(outcome.status == 64)
                #expect(outcome.errors.contains("one cluster's snapshots"), "\(outcome.errors)")
                #expect(!exists(new))
            }
        }

        @Test("a directory that is not empty stays as it is; what cannot be is said")
        func refusals() async throws {
            try await withBackup { data, backup, new in
                let before = try FileManager.default.contentsOfDirectory(atPath: data).sorted()
                let taken = try restore(backup, data)
                #expect(taken.status == 64)
                #expect(taken.errors.contains("is not empty"))
                #expect(
                    try FileManager.default.contentsOfDirectory(atPath: data).sorted() == before)

                #expect(try restore(backup, new, "--cluster-peers", "127.0.0.1:1").status == 78)
                #expect(try restore(backup, new, "--storage-state", "none").status == 78)
                #expect(try restore(backup + "-nowhere", new).status == 64)
                #expect(try restore(new + "-empty", new).status == 64)
                #expect(!exists(new))

                // An empty directory that is there already is used, and stays if the import fails.
                try FileManager.default.createDirectory(
                    atPath: new, withIntermediateDirectories: false)
                try FileManager.default.moveItem(
                    atPath: backup + "/region-2.snapshot", toPath: backup + "/region-2")
                let path = backup + "/region-3.snapshot"
                let whole = try Data(contentsOf: URL(filePath: path))
                try whole.dropLast(1).write(to: URL(filePath: path))
                #expect(try restore(backup, new).status == 64)
                try FileManager.default.moveItem(
                    atPath: backup + "/region-2", toPath: backup + "/region-2.snapshot")
                #expect(try restore(backup, new).status == 20)
                #expect(try FileManager.default.contentsOfDirectory(atPath: new).isEmpty)
                try whole.write(to: URL(filePath: path))
                #expect(try restore(backup, new).status == 0)
            }
        }
    }

#endif
