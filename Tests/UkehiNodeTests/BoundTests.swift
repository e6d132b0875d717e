// Every queue is bounded in bytes; past the bound the answer comes at once (DESIGN 9).

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Bounds of a node's queues")
struct BoundTests {
    private let megabyte = Bytes([UInt8](repeating: 7, count: 1 << 20))

    private func isOverloaded(_ reply: Reply?) -> Bool {
        if case .failed(.rejected(.overloaded))? = reply { true } else { false }
    }

    @Test("large queries fill the mailbox like large writes", arguments: [false, true])
    func queries(inLane: Bool) throws {
        let cluster = TestCluster(nodes: 1, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        cluster.members[0].executor.inLane = inLane
        var tags: [UInt64] = []
        for _ in 0..<200 {
            tags.append(cluster.submit(0, .query(megabyte, .linearizable), key: "k"))
        }
        let refused = tags.filter { isOverloaded(cluster.sink.replies[$0]) }.count
        #expect(refused >= 200 - Limits.maxQueuedRequestBytes >> 20)
        cluster.settle()
        #expect(tags.allSatisfy { cluster.sink.replies[$0] != nil })
    }

    @Test("messages without entries fill the mailbox too")
    func messages() throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let lane = try #require(cluster.members[0].core?.lanes[0])
        let message = Message(kind: .readIndex, context: megabyte)
        let epoch = RegionEpoch(confVersion: 1, version: 1)
        for _ in 0..<200 {
            lane.post(
                [RegionMessage(region: RegionID(2), epoch: epoch, message: message)],
                from: NodeID(2))
        }
        var contents = MailboxContents()
        lane.mailbox.drain(into: &contents)
        #expect(contents.deliveries.count <= Limits.maxQueuedMessageBytes >> 20)
        // Small ones are no nothing either: each takes memory of its own.
        let small = Array(
            repeating: RegionMessage(
                region: RegionID(2), epoch: epoch, message: Message(kind: .heartbeat)), count: 1000)
        for _ in 0..<10_000 { lane.post(small, from: NodeID(2)) }
        lane.mailbox.drain(into: &contents)
        #expect(
            contents.deliveries.count * 1000 * MemoryLayout<RegionMessage>.stride
                <= Limits.maxQueuedMessageBytes + small.count * MemoryLayout<RegionMessage>.stride)
    }

    @Test("reads that wait for a quorum are bounded in bytes, and are answered in the end")
    func waitingReads() throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let leader = try #require(cluster.leader(of: "k"))
        let alone = try #require(cluster.members[leader].core?.nodeID)
        cluster.network.drops = { $0.from == alone || $0.to == alone }
        var tags: [UInt64] = []
        for _ in 0..<200 {
            tags.append(cluster.submit(leader, .query(megabyte, .linearizable), key: "k"))
            cluster.settle()
        }
        let refused = tags.filter { isOverloaded(cluster.sink.replies[$0]) }.count
        #expect(refused >= 200 - Limits.maxQueuedRequestBytes >> 20)
        #expect(refused < 200)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 3000)
        #expect(tags.allSatisfy { cluster.sink.replies[$0] != nil })
        // What was answered makes room again.
        let again = try #require(cluster.leader(of: "k"))
        for _ in 0..<200 {
            let tag = cluster.submit(again, .query(megabyte, .linearizable), key: "k")
            cluster.settle()
            #expect(!isOverloaded(cluster.sink.replies[tag]))
        }
    }

    @Test("reads that wait for the read thread are bounded")
    func readThread() throws {
        let reader = HeldWorker()
        let cluster = TestCluster(nodes: 1, regions: 1, storeSeed: 1)
        cluster.worker = { _, name in name == "ukehi-read" ? reader : nil }
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        let key = Bytes([UInt8](repeating: 7, count: Limits.maxKeyBytes))
        var refused = 0
        for _ in 0..<20_000 {
            let tag = cluster.submit(0, .digest, key: key)
            if cluster.sink.replies.count % 4096 == 0 { cluster.settle() }
            if isOverloaded(cluster.sink.replies[tag]) { refused += 1 }
        }
        cluster.settle()
        #expect(reader.held.count * key.count <= Limits.maxQueuedRequestBytes)
        reader.isHolding = false
        reader.release()
        cluster.settle()
        #expect(cluster.sink.replies.count == 20_000)
        let tag = cluster.submit(0, .digest, key: key)
        cluster.settle()
        guard case .digest? = cluster.sink.replies[tag] else {
            Issue.record("a digest got \(String(describing: cluster.sink.replies[tag]))")
            return
        }
    }

    @Test("a key over the limit is refused wherever it is named")
    func longKeys() throws {
        let cluster = TestCluster(nodes: 1, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 1000)
        let long = Bytes([UInt8](repeating: 7, count: Limits.maxKeyBytes + 1))
        let operations: [(ClientOperation, Bytes)] = [
            (.get(.linearizable), long), (.get(.stale), long),
            (.scan(upper: long, limit: 1, .linearizable), "a"), (.query("", .stale), long),
            (.digest, long),
        ]
        for (operation, key) in operations {
            let tag = cluster.submit(0, operation, key: key)
            cluster.settle()
            guard case .failed(.rejected(.invalid))? = cluster.sink.replies[tag] else {
                Issue.record("it got \(String(describing: cluster.sink.replies[tag]))")
                continue
            }
        }
    }

    @Test("a follower whose store lags keeps no more of its log in memory than it may")
    func laggingApply() throws {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 1)
        let appliers = [HeldWorker(), HeldWorker(), HeldWorker()]
        for applier in appliers { applier.isHolding = false }
        cluster.worker = { member, name in
            name.hasPrefix("ukehi-apply") ? appliers[member] : nil
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let leader = try #require(cluster.leader(of: "k"))
        let follower = (leader + 1) % 3
        appliers[follower].isHolding = true
        for number in 0..<48 {
            guard
                case .command(.applied)? = try cluster.write(
                    .put(key: Bytes("k\(number)"), value: megabyte))
            else {
                Issue.record("write \(number) failed")
                return
            }
            cluster.pass(milliseconds: 50)
        }
        func peer(_ number: Int) throws -> Region {
            try #require(cluster.members[number].core?.lanes[0].regions[RegionID(2)])
        }
        #expect(try peer(follower).applied < peer(leader).applied)
        #expect(try peer(follower).log.lastIndex == peer(leader).log.lastIndex)
        #expect(
            try peer(follower).log.cachedBytes
                <= Int(Limits.maxUncommittedBytes) + megabyte.count * 2)
        appliers[follower].isHolding = false
        appliers[follower].release()
        cluster.pass(milliseconds: 2000)
        #expect(try peer(follower).applied == peer(leader).applied)
        #expect(cluster.failures.isEmpty)
    }
}
