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
