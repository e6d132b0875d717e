// Every client is answered once, and what it is told is what is known.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Answers to clients")
struct AnswerTests {
    private func put(_ key: Bytes, _ value: Bytes = "v") throws -> ClientOperation {
        .write(record: try Command.put(key: key, value: value).encoded())
    }

    @Test("reads that are with the read thread when the lane stops are answered")
    func readsAtStop() throws {
        let reader = HeldWorker()
        let cluster = TestCluster(nodes: 1, regions: 1, storeSeed: 1)
        cluster.worker = { _, name in name == "ukehi-read" ? reader : nil }
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        let core = try #require(cluster.members[0].core)
        // One comes back before the stop and is met by it in the mailbox, one after it.
        let first = cluster.submit(0, .digest, key: "k")
        let second = cluster.submit(0, .digest, key: "k")
        cluster.settle()
        #expect(reader.held.count == 2)
        core.lanes[0].post(.stop)
        reader.held[0]()
        cluster.settle()
        #expect(cluster.sink.replies[first] != nil)
        reader.held[1]()
        cluster.settle()
        #expect(cluster.sink.replies[second] != nil)
    }

    @Test("reads that the read thread ends after the executor has stopped are answered")
    func readsAfterStop() async throws {
        let reader = HeldWorker()
        let cluster = TestCluster(nodes: 1, regions: 1, storeSeed: 1)
        cluster.worker = { _, name in name == "ukehi-read" ? reader : nil }
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        let core = try #require(cluster.members[0].core)
        let read = cluster.submit(0, .digest, key: "k")
        cluster.settle()
        core.lanes[0].post(.stop)
        cluster.settle()
        await core.stop()
        #expect(reader.held.isEmpty)
        #expect(cluster.sink.replies[read] != nil)
    }
}

/// One result, from any thread.
private final class CollectedResult: @unchecked Sendable {
    // Safety: used on the test's thread only.
    private(set) var value: Result<Void, NodeError>?
    func set(_ result: Result<Void, NodeError>) { value = result }
}
