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

    @Test("a client's patience is its own, also where its write shares an entry with others")
    func patience() throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let leader = try #require(cluster.leader(of: "k"))
        var appended = true
        cluster.network.drops = { packet in
            appended && packet.messages.contains { !$0.message.entries.isEmpty }
        }
        let hasty = cluster.submit(leader, try put("a"), key: "a", patience: 100)
        let patient = cluster.submit(leader, try put("b"), key: "b", patience: 60_000)
        cluster.settle()
        cluster.pass(milliseconds: 1500)
        guard case .failed(.outcomeUnknown)? = cluster.sink.replies[hasty] else {
            Issue.record("the hasty one got \(String(describing: cluster.sink.replies[hasty]))")
            return
        }
        #expect(cluster.sink.replies[patient] == nil)
        appended = false
        cluster.pass(milliseconds: 3000)
        guard case .command(.applied)? = cluster.sink.replies[patient] else {
            Issue.record("the patient one got \(String(describing: cluster.sink.replies[patient]))")
            return
        }
    }

    @Test("a read whose index is known but not applied gives up at its deadline")
    func readPatience() throws {
        let applier = HeldWorker()
        applier.isHolding = false
        let cluster = TestCluster(nodes: 1, regions: 1, storeSeed: 1)
        cluster.worker = { _, name in name.hasPrefix("ukehi-apply") ? applier : nil }
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        applier.isHolding = true
        // Not blind, so that it is not applied on the lane.
        let command = Command.increment(key: "n", by: 1)
        let write = cluster.submit(0, .write(record: try command.encoded()), key: "n")
        cluster.settle()
        #expect(applier.held.count == 1)
        let read = cluster.submit(0, .get(.linearizable), key: "n", patience: 100)
        cluster.settle()
        #expect(cluster.sink.replies[read] == nil)
        cluster.pass(milliseconds: 1500)
        guard case .failed(.rejected(.timedOut))? = cluster.sink.replies[read] else {
            Issue.record("the read got \(String(describing: cluster.sink.replies[read]))")
            return
        }
        applier.release()
        cluster.settle()
        guard case .command(.counter)? = cluster.sink.replies[write] else {
            Issue.record("the write got \(String(describing: cluster.sink.replies[write]))")
            return
        }
    }

    @Test("what a region's state machine does not do is the request's fault, not to be tried again")
    func unsupported() throws {
        let cluster = TestCluster(nodes: 1, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        let query = cluster.submit(0, .query("body", .linearizable), key: "k")
        cluster.settle()
        guard case .failed(.rejected(.invalid))? = cluster.sink.replies[query] else {
            Issue.record("the query got \(String(describing: cluster.sink.replies[query]))")
            return
        }
    }

    @Test("who waits for a node that was stopped before it opened is told")
    func openAfterStop() async throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.start(0)
        let core = try #require(cluster.members[0].core)
        await core.stop()
        let told = CollectedResult()
        core.whenOpen { told.set($0) }
        guard case .failure(let error)? = told.value else {
            Issue.record("whoever waits, waits for ever")
            return
        }
        #expect(error.code == .unavailable)
    }
}

/// One result, from any thread.
private final class CollectedResult: @unchecked Sendable {
    // Safety: used on the test's thread only.
    private(set) var value: Result<Void, NodeError>?
    func set(_ result: Result<Void, NodeError>) { value = result }
}
