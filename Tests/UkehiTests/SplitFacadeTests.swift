// What a client notices of regions that are divided under it: nothing but time.

import Synchronization
import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Splits as clients see them", .prompt, .timeLimit(.minutes(5)))
struct SplitFacadeTests {
    /// There before anything is divided. A key's first byte says where it lies.
    private static let keys = (0..<200 as Range<UInt8>).map { Bytes([$0, 0]) }
    /// Compared and set, each by a task of its own.
    private static let chains = ([25, 75, 125, 175] as [UInt8]).map { Bytes([$0, 1]) }
    private static let counter: Bytes = [100, 2]
    /// Behind the keys with these first bytes regions end, one after the other.
    private static let places: [UInt8] = [99, 49, 149, 24, 74, 124, 174, 12]
    private static let patience = Duration.seconds(60)

    private func configuration(
        _ position: Int, _ addresses: [String], _ directory: String
    ) -> Configuration {
        var configuration = Configuration(directory: "\(directory)/node-\(position + 1)")
        configuration.cluster.nodeID = "node-\(position + 1)"
        configuration.cluster.listen = addresses[position]
        configuration.cluster.peers = addresses.filter { $0 != addresses[position] }
        configuration.storage.state = .memory
        // Nothing is divided or merged but by the test.
        configuration.sharding.shardCount = 1
        configuration.sharding.splitLoadPerSecond = 0
        configuration.sharding.mergeThresholdMegabytes = 0
        configuration.wal.segmentMegabytes = 16
        configuration.raft.electionTimeoutMilliseconds = 2000
        configuration.raft.heartbeatIntervalMilliseconds = 50
        configuration.runtime.lanes = 2
        return configuration
    }

    private func withCluster(_ body: ([Node]) async throws -> Void) async throws {
        try await withTemporaryDirectory { directory async throws in
            let addresses = try freeAddresses(3)
            var nodes: [Node] = []
            do {
                for position in 0..<3 {
                    let configuration = configuration(position, addresses, directory)
                    nodes.append(try await Node.start(configuration: configuration))
                }
                for node in nodes { try await node.ready() }
                try await body(nodes)
            } catch {
                for node in nodes { await node.stop() }
                throw error
            }
            for node in nodes { await node.stop() }
        }
    }

    /// Divides a region between the keys with this first byte and those behind them.
    private func split(_ node: Node, behind place: UInt8) async throws {
        let key: Bytes = [place, 128]
        let parts = try await node.split(at: [key], timeout: Self.patience)
        #expect(parts.map(\.range.upper).first == key)
        #expect(parts.count == 2)
    }

    /// Divides at all places, with writes before, between and behind; then the load ends.
    private func divide(_ nodes: [Node], under load: Load) async throws {
        defer { load.end() }
        var written = 0
        for await _ in load.writes {
            written += 1
            guard written.isMultiple(of: 40) else { continue }
            let number = written / 40 - 1
            guard number < Self.places.count else { return }
            // Each is asked of another node, which knows of the last one or not.
            try await split(nodes[number % nodes.count], behind: Self.places[number])
        }
    }

    // MARK: The load; each gives what it has written last.

    private static func put(
        _ quarter: Int, _ client: Client, _ load: Load
    ) async throws -> [Bytes: Bytes] {
        let own = (0..<keys.count / 4).map { keys[$0 * 4 + quarter] }
        var last: [Bytes: Bytes] = [:]
        _ = try await load.run { number in
            let (key, value) = (own[number % own.count], Bytes("\(number)"))
            try await client.put(key, value, timeout: patience)
            last[key] = value
        }
        return last
    }

    private static func compareAndSet(
        _ key: Bytes, _ client: Client, _ load: Load
    ) async throws -> [Bytes: Bytes] {
        var expected = Expectation.absent
        let count = try await load.run { number in
            let version = try await client.compareAndSet(
                key, expected: expected, to: Bytes("\(number)"), timeout: patience)
            expected = .version(try #require(version))
        }
        return [key: Bytes("\(count - 1)")]
    }

    private static func increment(
        _ session: Session, _ proxy: CuttingProxy, _ load: Load
    ) async throws -> [Bytes: Bytes] {
        let count = try await load.run { number in
            // The answer may be lost: what is asked again is not counted again.
            if number % 8 == 4 { proxy.arm() }
            let value = try await session.increment(counter, timeout: patience)
            #expect(value == Int64(number + 1))
        }
        return [counter: Bytes("\(count)")]
    }

    @Test("all writes succeed, once each, and scans go on, while regions are divided")
    func splits() async throws {
        try await withCluster { nodes async throws in
            let client = try Client(endpoints: nodes.map(\.address))
            var expected: [Bytes: Bytes] = [:]
            for key in Self.keys {
                try await client.put(key, "before", timeout: Self.patience)
                expected[key] = "before"
            }
            #expect(nodes[0].regions.count == 1)
            // Answers are lost while the node behind the proxy leads the counter's region.
            let leader = nodes.first { $0.leads(Self.counter) } ?? nodes[0]
            let port = try #require(
                leader.address.split(separator: ":").last.flatMap { UInt16($0) })
            let proxy = try CuttingProxy(to: port)
            defer { proxy.close() }
            let counting = try Client(endpoints: ["127.0.0.1:\(proxy.port)"])
            let session = counting.openSession()
            let load = Load()
            try await withThrowingTaskGroup(of: [Bytes: Bytes].self) { group in
                for quarter in 0..<4 {
                    group.addTask { try await Self.put(quarter, client, load) }
                }
                for key in Self.chains {
                    group.addTask { try await Self.compareAndSet(key, client, load) }
                }
                group.addTask { try await Self.increment(session, proxy, load) }
                try await divide(nodes, under: load)
                for try await last in group { expected.merge(last) { $1 } }
            }
            for (key, value) in expected {
                let found = try await client.get(key, mode: .linearizable, timeout: Self.patience)
                #expect(found?.value == value, "\(key.array)")
            }

            // Divided where the scan is going on, and behind it.
            var pairs: [KeyValue] = []
            var pages = 0
            var next: Bytes? = ""
            while let from = next {
                let page = try await client.scan(
                    from: from, to: nil, limit: 30, mode: .linearizable, timeout: Self.patience)
                pairs += page.pairs
                next = page.next
                pages += 1
                if pages == 2 { try await split(nodes[0], behind: 62) }
                if pages == 3 { try await split(nodes[1], behind: 80) }
            }
            #expect(pages > 3)
            let sorted = expected.keys.sorted()
            let values = sorted.compactMap { expected[$0] }
            #expect(pairs.map(\.key) == sorted)
            #expect(pairs.map(\.value) == values)
            await counting.stop()
            await client.stop()
        }
    }
}

/// Writes of several tasks, which go on until they are told to end.
private final class Load: Sendable {
    /// One for each acknowledged write; ends with the first of the tasks, which may have failed.
    let writes: AsyncStream<Void>
    private let written: AsyncStream<Void>.Continuation
    private let isOver = Mutex(false)

    init() { (writes, written) = AsyncStream<Void>.makeStream() }

    func end() { isOver.withLock { $0 = true } }

    /// Writes at least once; gives how many times it was. `write` gets the number of those before.
    func run(_ write: (Int) async throws -> Void) async throws -> Int {
        defer { written.finish() }
        var number = 0
        repeat {
            try await write(number)
            number += 1
            written.yield()
        } while !isOver.withLock({ $0 })
        return number
    }
}
