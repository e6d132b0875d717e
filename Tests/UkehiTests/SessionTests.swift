// Writes of a session as an embedder meets them: carried out once, whatever becomes of the answers.

import Testing
import Ukehi
import _UkehiTestSupport

@Suite("Sessions", .prompt, .timeLimit(.minutes(10)))
struct SessionTests {
    private func withNode(_ body: (Node) async throws -> Void) async throws {
        try await withTemporaryDirectory { directory async throws in
            var configuration = Configuration(directory: directory)
            configuration.storage.state = .memory
            configuration.sharding.shardCount = 4
            configuration.wal.segmentMegabytes = 16
            configuration.raft.electionTimeoutMilliseconds = 300
            configuration.raft.heartbeatIntervalMilliseconds = 50
            let node = try await Node.start(configuration: configuration)
            do { try await body(node) } catch {
                await node.stop()
                throw error
            }
            await node.stop()
        }
    }

    private func proxy(of node: Node) throws -> CuttingProxy {
        let port = try #require(node.address.split(separator: ":").last.flatMap { UInt16($0) })
        return try CuttingProxy(to: port)
    }

    @Test("a write whose answer is lost is asked again, and carried out once")
    func lostAnswers() async throws {
        try await withNode { node async throws in
            let proxy = try proxy(of: node)
            let client = try Client(endpoints: ["127.0.0.1:\(proxy.port)"])
            let session = client.openSession()
            #expect(try await session.increment("n", timeout: .seconds(60)) == 1)
            for round in 1...5 as ClosedRange<Int64> {
                proxy.arm()
                #expect(try await session.increment("n", timeout: .seconds(60)) == round + 1)
                #expect(proxy.cuts == Int(round))
            }
            #expect(
                try await node.get("n", mode: .linearizable, timeout: .seconds(60))?.value == "6")
            // Without a session nobody can know.
            proxy.arm()
            await #expect(throws: RequestError.outcomeUnknown) {
                try await client.increment("m", timeout: .seconds(60))
            }
            #expect(
                try await node.get("m", mode: .linearizable, timeout: .seconds(60))?.value == "1")
            await client.stop()
            proxy.close()
        }
    }

    @Test("with no time left, or less, nothing is waited for")
    func pastDeadlines() async throws {
        try await withNode { node async throws in
            let session = node.openSession()
            // A region without a leader yet says that first.
            _ = try await session.increment("n", timeout: .seconds(60))
            for timeout in [.milliseconds(-3), .nanoseconds(-1), .zero, .seconds(-2)] as [Duration]
            {
                do {
                    _ = try await session.increment("n", timeout: timeout)
                } catch let error as RequestError {
                    #expect(error == .rejected(.timedOut) || error == .outcomeUnknown, "\(error)")
                }
            }
            #expect(try await session.increment("m", timeout: .seconds(60)) == 1)
        }
    }

    @Test("many tasks share a session, over all regions, and more than its window at a time")
    func manyTasks() async throws {
        try await withNode { node async throws in
            let session = node.openSession()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<400 {
                    group.addTask {
                        let key: Bytes = [UInt8(number % 8 * 32)]
                        try await session.increment(key, timeout: .seconds(60))
                    }
                }
                try await group.waitForAll()
            }
            for number in 0..<8 as Range<UInt8> {
                #expect(
                    try await session.get(
                        [number * 32], mode: .linearizable, timeout: .seconds(60))?.value == "50")
            }
        }
    }

    @Test("each operation does what it does without a session")
    func operations() async throws {
        try await withNode { node async throws in
            let session = node.openSession()
            let first = try await session.put("a", "1", timeout: .seconds(60))
            #expect(
                try await session.compareAndSet(
                    "a", expected: .absent, to: "x", timeout: .seconds(60)) == nil)
            #expect(
                try await session.compareAndSet(
                    "a", expected: .version(first), to: "2", timeout: .seconds(60)) != nil)
            #expect(
                try await session.batch(
                    [.put(key: "b", value: "1"), .delete(key: "a")], timeout: .seconds(60)) != nil)
            #expect(
                try await session.scan(from: "").pairs.map(\.key) == ["b"])
            try await session.delete("b", timeout: .seconds(60))
            #expect(try await session.get("b", mode: .linearizable, timeout: .seconds(60)) == nil)
            try await session.put("b", "text", timeout: .seconds(60))
            await #expect(throws: RequestError.self) {
                try await session.increment("b", timeout: .seconds(60))
            }
            #expect(try await session.openSession().increment("c", timeout: .seconds(60)) == 1)
        }
    }
}
