import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Node and client", .prompt, .timeLimit(.minutes(3)))
struct FacadeTests {
    /// A small, quick node in `directory`.
    private func configuration(
        _ directory: String, state: Configuration.Storage.State = .memory
    ) -> Configuration {
        var configuration = Configuration(directory: directory)
        configuration.storage.state = state
        configuration.sharding.shardCount = 4
        configuration.wal.segmentMegabytes = 16
        configuration.raft.electionTimeoutMilliseconds = 300
        configuration.raft.heartbeatIntervalMilliseconds = 50
        return configuration
    }

    private func withNode<R>(
        state: Configuration.Storage.State = .memory, _ body: (Node) async throws -> R
    ) async throws -> R {
        try await withTemporaryDirectory { directory async throws in
            let node = try await Node.start(configuration: configuration(directory, state: state))
            do {
                let result = try await body(node)
                await node.stop()
                return result
            } catch {
                await node.stop()
                throw error
            }
        }
    }

    @Test("a test of nodes does not wait for those that compute, and its child tasks do not either")
    func promptness() async {
        #expect(PromptThreads.isCurrent)
        async let child = PromptThreads.isCurrent
        #expect(await child)
        await Task.yield()
        #expect(PromptThreads.isCurrent)
    }

    @Test("each operation does what it says", arguments: [Configuration.Storage.State.memory])
    func operations(state: Configuration.Storage.State) async throws {
        try await withNode(state: state) { node async throws in
            #expect(try await node.get("a") == nil)
            let first = try await node.put("a", "1")
            let second = try await node.put("a", "2")
            #expect(second > first)
            #expect(try await node.get("a") == VersionedValue(value: "2", version: second))

            #expect(try await node.compareAndSet("a", expected: .version(first), to: "x") == nil)
            #expect(try await node.compareAndSet("a", expected: .absent, to: "x") == nil)
            #expect(try await node.compareAndSet("a", expected: .value("2"), to: "3") != nil)
            #expect(try await node.get("a")?.value == "3")

            // Gone as soon as the write has returned, though nothing else is written to the region.
            try await node.put("brief", "1", expiresAfter: .nanoseconds(1))
            #expect(try await node.get("brief") == nil)
            #expect(try await node.compareAndSet("brief", expected: .absent, to: "2") != nil)
            #expect(try await node.get("brief")?.value == "2")
            try await node.put("long", "1", expiresAfter: .seconds(Int64.max))
            #expect(try await node.get("long")?.value == "1")
            await #expect(throws: RequestError.self) {
                try await node.put("long", "2", expiresAfter: .zero)
            }
            await #expect(throws: RequestError.self) {
                try await node.put("long", "2", expiresAfter: .seconds(-1))
            }
            #expect(try await node.get("long")?.value == "1")
            try await node.delete("long")
            try await node.delete("brief")

            #expect(try await node.increment("n") == 1)
            #expect(try await node.increment("n", by: -5) == -4)

            try await node.delete("a")
            try await node.delete("a")
            #expect(try await node.get("a") == nil)

            let batch = try await node.batch([
                .check(key: "b", expected: .absent), .put(key: "b", value: "1"),
                .put(key: "ba", value: "2"),
            ])
            #expect(batch != nil)
            let again = try await node.batch([
                .check(key: "b", expected: .absent), .put(key: "b", value: "9"),
            ])
            #expect(again == nil)
            #expect(try await node.get("b")?.value == "1")
        }
    }

    @Test("a scan crosses regions, keeps order, and stops at its limit and its end")
    func scans() async throws {
        try await withNode { node async throws in
            #expect(node.regions.count == 4)
            let keys = (0..<200).map { number -> Bytes in
                let first = UInt8(truncatingIfNeeded: number &* 37)
                return [first, UInt8(truncatingIfNeeded: number)]
            }
            for key in keys { try await node.put(key, key) }
            let sorted = keys.sorted()
            let all = try await node.scan(from: "")
            #expect(all.pairs.map(\.key) == sorted)
            #expect(all.pairs.map(\.value) == sorted)
            #expect(!all.hasMore)

            var found: [Bytes] = []
            var next: Bytes? = ""
            while let from = next {
                let page = try await node.scan(from: from, limit: 7)
                #expect(page.pairs.count <= 7)
                found += page.pairs.map(\.key)
                next = page.next
            }
            #expect(found == sorted)

            let part = try await node.scan(sorted[50]..<sorted[150], limit: 1000)
            #expect(part.pairs.map(\.key) == Array(sorted[50..<150]))
            #expect(!part.hasMore)
            #expect(try await node.scan(from: "b", to: "a").pairs.isEmpty)
        }
    }

    @Test("what was acknowledged is there after a restart, clean or not")
    func restart() async throws {
        try await withTemporaryDirectory { directory async throws in
            for round in 0..<3 {
                let node = try await Node.start(configuration: configuration(directory))
                for earlier in 0..<round {
                    #expect(try await node.get(Bytes("key-\(earlier)"))?.value == "kept")
                }
                try await node.put(Bytes("key-\(round)"), "kept")
                #expect(node.isLeader)
                #expect(node.leads("key"))
                await node.stop()
            }
        }
    }

    @Test("requests at fault are refused at once, with the reason")
    func faults() async throws {
        try await withNode { node async throws in
            let long = Bytes([UInt8](repeating: 65, count: 4097))
            let large = Bytes([UInt8](repeating: 65, count: (8 << 20) + 1))
            await #expect(throws: RequestError.self) { try await node.put(long, "v") }
            await #expect(throws: RequestError.self) { try await node.get(long) }
            await #expect(throws: RequestError.self) { try await node.put("k", large) }
            try await node.put("text", "not a number")
            await #expect(throws: RequestError.self) { try await node.increment("text") }
            // Two regions in one batch.
            let severalRegions = RequestError.rejected(
                .invalid(
                    "The keys lie in several regions: a batch is carried out within one. Split it, "
                        + "or use one write for each."))
            await #expect(throws: severalRegions) {
                try await node.batch(
                    [.put(key: [0], value: "1"), .put(key: [255], value: "1")],
                    timeout: .seconds(60))
            }
            #expect(try await node.get([0]) == nil)
            // The largest that is allowed.
            let key = Bytes([UInt8](repeating: 66, count: 4096))
            let value = Bytes([UInt8](repeating: 67, count: 8 << 20))
            try await node.put(key, value, timeout: .seconds(30))
            #expect(try await node.get(key)?.value == value)
        }
    }

    @Test("a directory in use is refused, and still serves its owner")
    func directoryInUse() async throws {
        try await withTemporaryDirectory { directory async throws in
            let node = try await Node.start(configuration: configuration(directory))
            try await node.put("k", "v")
            let error = await #expect(throws: NodeError.self) {
                _ = try await Node.start(configuration: configuration(directory))
            }
            #expect(error?.code == .identity)
            #expect(try await node.get("k")?.value == "v")
            await node.stop()
        }
    }

    @Test("another node's directory is refused and untouched")
    func otherNodesDirectory() async throws {
        try await withTemporaryDirectory { directory async throws in
            let node = try await Node.start(configuration: configuration(directory))
            try await node.put("k", "v")
            await node.stop()
            var other = configuration(directory)
            other.cluster.nodeID = "node-2"
            let error = await #expect(throws: NodeError.self) {
                _ = try await Node.start(configuration: other)
            }
            #expect(error?.code == .identity)
            let again = try await Node.start(configuration: configuration(directory))
            #expect(try await again.get("k")?.value == "v")
            await again.stop()
        }
    }

    @Test("a port in use is told")
    func portInUse() async throws {
        try await withNode { node async throws in
            try await withTemporaryDirectory { directory async throws in
                var second = configuration(directory)
                second.cluster.listen = node.address
                let error = await #expect(throws: NodeError.self) {
                    _ = try await Node.start(configuration: second)
                }
                #expect(error?.code == .unavailable)
            }
        }
    }

    @Test("a client elsewhere sees the same, from one endpoint")
    func client() async throws {
        try await withNode { node async throws in
            let client = try Client(endpoints: [node.address])
            // Patient: other tests may have the processors to themselves for a while.
            try await client.put("k", "v", timeout: .seconds(60))
            #expect(try await node.get("k")?.value == "v")
            #expect(try await client.increment("n", by: 3, timeout: .seconds(60)) == 3)
            #expect(try await client.scan(from: "").pairs.map(\.key) == ["k", "n"])
            #expect(try await client.topology().regions.count == 4)
            await client.stop()
            await #expect(throws: RequestError.self) { try await client.get("k") }
        }
    }

    @Test("a client of nobody gives up at its deadline, and nothing was done")
    func nobody() async throws {
        let client = try Client(endpoints: ["127.0.0.1:1"])
        do {
            try await client.put("k", "v", timeout: .milliseconds(200))
            Issue.record("somebody answered")
        } catch {
            // On a busy machine the deadline may pass before the port has refused once.
            switch error {
            case .rejected(.unavailable), .rejected(.timedOut): break
            default: Issue.record("\(error)")
            }
        }
        await client.stop()
    }

    @Test("a deadline that passes while a connection is being made is kept")
    func silence() async throws {
        let listener = try SilentListener()
        let client = try Client(endpoints: ["127.0.0.1:\(listener.port)"])
        // Two that wait for one connection, the later deadline first.
        async let patient = client.get("k", mode: .stale, timeout: .milliseconds(120))
        for timeout in [Duration.milliseconds(60), .milliseconds(20)] {
            await #expect(throws: RequestError.rejected(.timedOut)) {
                try await client.put("k", "v", timeout: timeout)
            }
        }
        do {
            _ = try await patient
            Issue.record("nobody answered")
        } catch {
            #expect(error as? RequestError == .rejected(.timedOut))
        }
        await client.stop()
    }

    @Test("operations after stop are refused, those before are answered")
    func afterStop() async throws {
        try await withTemporaryDirectory { directory async throws in
            let node = try await Node.start(configuration: configuration(directory))
            try await node.put("k", "v")
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<64 {
                    group.addTask {
                        // Any answer will do; none would hang the test.
                        _ = try? await node.put(
                            Bytes("k\(number)"), "v", timeout: .milliseconds(500))
                    }
                }
                group.addTask { await node.stop() }
            }
            await #expect(throws: RequestError.self) {
                try await node.put("late", "v", timeout: .milliseconds(200))
            }
        }
    }
}
