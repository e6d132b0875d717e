// A volume that has no room for the log's next segment.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Full volumes")
struct FullVolumeTests {
    private static let key: Bytes = "k"

    private func started(_ nodes: Int) throws -> TestCluster {
        let cluster = TestCluster(nodes: nodes, regions: 1)
        cluster.logOptions = { $0.segmentBytes = 1 << 20 }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        return cluster
    }

    private func command(_ command: Command, _ cluster: TestCluster, at number: Int) throws
        -> Reply?
    {
        let tag = cluster.submit(number, .write(record: try command.encoded()), key: Self.key)
        cluster.settle()
        return cluster.sink.replies[tag]
    }
    private func put(_ cluster: TestCluster, at number: Int, bytes: Int = 4) throws -> Reply? {
        // Such as does not shrink.
        let random = NodeRandom(seed: UInt64(bytes))
        let value = Bytes((0..<bytes).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        return try command(.put(key: Self.key, value: value), cluster, at: number)
    }
    private func isApplied(_ reply: Reply?) -> Bool {
        if case .command(.applied)? = reply { true } else { false }
    }

    /// From now on there is no room for another file on these members' volumes.
    private func fill(_ cluster: TestCluster, _ full: [Int]) {
        for number in full {
            cluster.members[number].fileSystem.setHook { operation throws(FileError) in
                guard operation.kind == .allocate else { return }
                throw FileError(kind: .noSpace, operation: "fallocate", path: operation.path)
            }
        }
    }
    private func empty(_ cluster: TestCluster) {
        for member in cluster.members { member.fileSystem.setHook(nil) }
        cluster.pass(milliseconds: 1000)
    }
    private func lacksRoom(_ cluster: TestCluster, _ number: Int) -> Bool {
        cluster.members[number].core.map { $0.log.roomLeft.room != .ample } ?? false
    }
    /// Writes until these members' logs have used what they had prepared.
    private func write(_ cluster: TestCluster, at leader: Int, until full: [Int]) throws {
        var writes = 0
        while !full.allSatisfy({ lacksRoom(cluster, $0) }) {
            #expect(isApplied(try put(cluster, at: leader, bytes: 30_000)))
            writes += 1
            guard writes < 200 else { throw NotFilled() }
        }
    }
    private struct NotFilled: Error {}

    @Test("a leader on it hands over, others write on, and it catches up when there is room")
    func oneNode() throws {
        let cluster = try started(3)
        let full = try #require(cluster.leader(of: Self.key))
        fill(cluster, [full])
        try write(cluster, at: full, until: [full])
        cluster.pass(milliseconds: 200)
        let leader = try #require(cluster.leader(of: Self.key))
        #expect(leader != full)
        let lane = try #require(cluster.members[full].core?.lanes[0])
        #expect(!lane.orderedRegions.contains { $0.isLeader })
        // More than its segment holds.
        for _ in 0..<60 {
            #expect(isApplied(try put(cluster, at: leader, bytes: 30_000)))
            cluster.pass(milliseconds: 50)
        }
        cluster.pass(milliseconds: 5000)
        #expect(cluster.leader(of: Self.key) == leader)
        // What it has left is there for its vote, and for what makes room.
        let end = try #require(lane.orderedRegions.last).raft.lastIndex
        #expect(
            try #require(cluster.members[leader].core?.lanes[0].orderedRegions.last).raft.lastIndex
                > end)
        let node = try #require(cluster.members[leader].core?.nodeID)
        cluster.network.drops = { $0.from == node || $0.to == node }
        cluster.pass(milliseconds: 5000)
        let third = try #require((0..<3).first { $0 != leader && $0 != full })
        let region = try #require(cluster.members[third].core?.lanes[0].orderedRegions.last)
        #expect(region.isLeader)
        #expect(lane.orderedRegions.last?.leader == region.peer)
        cluster.network.drops = { _ in false }
        empty(cluster)
        cluster.pass(milliseconds: 20_000)
        #expect(isApplied(try put(cluster, at: try #require(cluster.leader(of: Self.key)))))
        cluster.pass(milliseconds: 1000)
        #expect(lane.orderedRegions.last?.applied == region.applied)
        #expect(cluster.failures.isEmpty)
    }

    @Test("where all are full writes are refused, deletes are not, and an election goes on")
    func allNodes() throws {
        let cluster = try started(3)
        let all = [0, 1, 2]
        let first = try #require(cluster.leader(of: Self.key))
        fill(cluster, all)
        try write(cluster, at: first, until: all)
        cluster.pass(milliseconds: 5000)
        let leader = try #require(cluster.leader(of: Self.key))
        for _ in 0..<3 {
            guard case .failed(.rejected(.diskFull))? = try put(cluster, at: leader) else {
                Issue.record("a write was taken")
                continue
            }
        }
        #expect(isApplied(try command(.delete(key: Self.key), cluster, at: leader)))
        let node = try #require(cluster.members[leader].core?.nodeID)
        cluster.network.drops = { $0.from == node || $0.to == node }
        cluster.pass(milliseconds: 5000)
        let second = try #require(
            all.first {
                $0 != leader
                    && cluster.members[$0].core?.lanes[0].orderedRegions.last?.isLeader == true
            })
        #expect(isApplied(try command(.delete(key: Self.key), cluster, at: second)))
        cluster.network.drops = { _ in false }
        empty(cluster)
        cluster.pass(milliseconds: 5000)
        #expect(isApplied(try put(cluster, at: try #require(cluster.leader(of: Self.key)))))
        #expect(cluster.failures.isEmpty)
    }

    @Test("where too few have room to commit a write none is begun, and deletes are not behind one")
    func fewHaveRoom() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leader(of: Self.key))
        let others = [0, 1, 2].filter { $0 != leader }
        fill(cluster, others)
        try write(cluster, at: leader, until: others)
        // Before it knows, it takes what they still have room for.
        #expect(isApplied(try put(cluster, at: leader, bytes: 30_000)))
        cluster.pass(milliseconds: 3000)
        #expect(cluster.leader(of: Self.key) == leader)
        #expect(cluster.members[leader].core?.log.roomLeft.room == .ample)
        guard case .failed(.rejected(.diskFull))? = try put(cluster, at: leader) else {
            Issue.record("a write was taken")
            return
        }
        let deletes = Command.batch([.delete(key: "a"), .delete(key: Self.key)])
        #expect(isApplied(try command(deletes, cluster, at: leader)))
        empty(cluster)
        cluster.pass(milliseconds: 3000)
        #expect(isApplied(try put(cluster, at: try #require(cluster.leader(of: Self.key)))))
        #expect(cluster.failures.isEmpty)
    }

    @Test("a voter that is dead has no room either")
    func deadVoter() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leader(of: Self.key))
        let (full, dead) = ((leader + 1) % 3, (leader + 2) % 3)
        fill(cluster, [full])
        try write(cluster, at: leader, until: [full])
        let node = try #require(cluster.members[dead].core?.nodeID)
        cluster.network.drops = { $0.from == node || $0.to == node }
        cluster.pass(milliseconds: 4000)
        #expect(cluster.leader(of: Self.key) == leader)
        guard case .failed(.rejected(.diskFull))? = try put(cluster, at: leader) else {
            Issue.record("a write was taken")
            return
        }
        #expect(isApplied(try command(.delete(key: Self.key), cluster, at: leader)))
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 1000)
        #expect(isApplied(try put(cluster, at: leader)))
        empty(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "a node alone refuses writes while its log has no room for a segment, and reads and deletes"
    )
    func alone() throws {
        let cluster = try started(1)
        fill(cluster, [0])
        try write(cluster, at: 0, until: [0])
        cluster.pass(milliseconds: 100)
        guard case .failed(.rejected(.diskFull))? = try put(cluster, at: 0) else {
            Issue.record("a write was taken")
            return
        }
        let read = cluster.submit(0, .get(.linearizable), key: Self.key)
        cluster.settle()
        if case .value(.some)? = cluster.sink.replies[read] {
        } else {
            Issue.record("\(String(describing: cluster.sink.replies[read]))")
        }
        #expect(isApplied(try command(.delete(key: Self.key), cluster, at: 0)))
        empty(cluster)
        #expect(isApplied(try put(cluster, at: 0)))
        #expect(cluster.failures.isEmpty)
    }

    /// A key of so many bytes.
    private func longKey(_ number: Int, bytes: Int = 4000) -> Bytes {
        Bytes(
            [UInt8](repeating: UInt8(ascii: "k"), count: bytes - 8) + "\(10_000_000 + number)".utf8)
    }
    private func lane(_ cluster: TestCluster, _ number: Int) throws -> Lane {
        try #require(cluster.members[number].core?.lanes[0])
    }
    /// Another node leads in place of `old`, though nobody has room.
    private func expectElection(_ cluster: TestCluster, without old: Int) throws {
        let node = try #require(cluster.members[old].core?.nodeID)
        cluster.network.drops = { $0.from == node || $0.to == node }
        cluster.pass(milliseconds: 5000)
        #expect(
            try (0..<3).contains {
                try $0 != old && lane(cluster, $0).orderedRegions.last?.isLeader == true
            })
        cluster.network.drops = { _ in false }
    }

    @Test(
        "however many deletes come at once, they are taken only as far as they have room together")
    func manyAtOnce() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leader(of: Self.key))
        fill(cluster, [0, 1, 2])
        try write(cluster, at: leader, until: [0, 1, 2])
        cluster.pass(milliseconds: 5000)
        let led = try #require(cluster.leader(of: Self.key))
        var tags: [UInt64] = []
        for number in 0..<400 {
            let command = Command.delete(key: longKey(number))
            tags.append(
                cluster.submit(led, .write(record: try command.encoded()), key: command.key))
        }
        cluster.settle()
        let applied = tags.count { isApplied(cluster.sink.replies[$0]) }
        #expect(applied > 0 && applied < tags.count)
        for number in 0..<3 {
            let lane = try lane(cluster, number)
            #expect(lane.batch.isEmpty && lane.refusedSince == nil)
            #expect(lane.log.roomLeft.bytes > 0)
        }
        try expectElection(cluster, without: led)
        #expect(cluster.failures.isEmpty)
    }

    @Test("deletes leave room for what a cluster needs to stay one")
    func deletesEnd() throws {
        let cluster = try started(3)
        let first = try #require(cluster.leader(of: Self.key))
        fill(cluster, [0, 1, 2])
        try write(cluster, at: first, until: [0, 1, 2])
        cluster.pass(milliseconds: 5000)
        let leader = try #require(cluster.leader(of: Self.key))
        var taken = 0
        for _ in 0..<500 {
            let reply = try command(.delete(key: Self.key), cluster, at: leader)
            if isApplied(reply) { taken += 1 }
            // While its leadership is being offered to others a leader takes nothing.
            if case .failed(.rejected(.diskFull))? = reply { break }
            cluster.pass(milliseconds: 50)
        }
        #expect(taken > 10 && taken < 500)
        for number in 0..<3 {
            let left = try lane(cluster, number).log.roomLeft
            #expect(left.bytes > left.segmentBytes / 16)
        }
        try expectElection(cluster, without: leader)
        #expect(cluster.failures.isEmpty)
    }

    @Test("of an append that has no room as a whole a follower takes what has")
    func partOfAnAppend() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leader(of: Self.key))
        let full = (leader + 1) % 3
        fill(cluster, [full])
        try write(cluster, at: leader, until: [full])
        let node = try #require(cluster.members[full].core?.nodeID)
        cluster.network.drops = { $0.from == node || $0.to == node }
        let lane = try lane(cluster, full)
        let room = lane.log.roomLeft.bytes
        for number in 0...room / 4096 {
            #expect(isApplied(try command(.delete(key: longKey(number)), cluster, at: leader)))
        }
        let region = try #require(lane.orderedRegions.last)
        let before = region.raft.lastIndex
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 2000)
        #expect(region.raft.lastIndex > before)
        #expect(lane.batch.isEmpty && lane.log.roomLeft.bytes > 0)
        empty(cluster)
        cluster.pass(milliseconds: 5000)
        #expect(
            region.raft.lastIndex
                == (try self.lane(cluster, leader).orderedRegions.last?.raft.lastIndex))
        #expect(cluster.failures.isEmpty)
    }

    @Test("what a follower's log has already it hears of again, however full it is")
    func knownEntries() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leader(of: Self.key))
        for _ in 0..<3 { #expect(isApplied(try put(cluster, at: leader))) }
        let lane = try lane(cluster, (leader + 1) % 3)
        let region = try #require(lane.orderedRegions.last)
        lane.room = .scarce
        let last = region.raft.lastIndex
        let held = try lane.log.entries(
            region: region.id, from: last - 2, to: last + 1, maxBytes: 1 << 20)
        #expect(held.count == 3)
        let taken = lane.roomTaken
        #expect(lane.countWithRoom(held, region) == 3 && lane.roomTaken == taken)
        var more = held
        more.append(held[2])
        more[3].index = last + 1
        #expect(lane.countWithRoom(more, region) == 3)
        // What it has let go it had.
        try region.log.compact(upTo: last - 1)
        #expect(lane.countWithRoom(held, region) == 3)
        // A term that it has not is not what it has.
        more[3].term = Term(more[3].term.rawValue + 1)
        #expect(lane.countWithRoom(more, region) == 3)
        lane.roomBytes = 8 << 10
        more = [Entry(term: held[2].term, index: last + 1, data: Bytes())]
        #expect(lane.countWithRoom(more, region) == 1 && lane.roomTaken == taken + 4096)
    }

    @Test("what asks for no room of its own is told by its bytes, also where they lie")
    func frugality() throws {
        func payload(_ commands: [Command]) throws -> Bytes {
            var packer = EntryPacker()
            packer.begin(epoch: RegionEpoch(confVersion: 1, version: 1), time: 1)
            for command in commands { #expect(packer.append(try command.encoded())) }
            return packer.finish()
        }
        let put = Command.put(key: "a", value: "b")
        let delete = Command.delete(key: "a")
        #expect(EntryPayload.isFrugal(Bytes()))
        #expect(EntryPayload.isFrugal(try payload([delete, delete])))
        #expect(!EntryPayload.isFrugal(try payload([delete, put])))
        #expect(!EntryPayload.isFrugal(try payload([put, delete])))
        #expect(!EntryPayload.isFrugal(try payload([.increment(key: "a", by: 1)])))
        #expect(EntryPayload.isFrugal(try payload([.batch([delete, delete])])))
        #expect(!EntryPayload.isFrugal(try payload([.batch([delete, put])])))
        for (value, isFrugal) in [(Bytes?.none, true), ("b", false)] {
            let command = Command.compareAndSet(
                key: "a", expected: .absent, value: value, expiresAt: nil)
            #expect(EntryPayload.isFrugal(try payload([command])) == isFrugal)
        }
        let whole = try payload([delete, put]).array
        for count in 1..<whole.count {
            #expect(!EntryPayload.isFrugal(Bytes(Array(whole[..<count]))))
        }
        for position in whole.indices {
            var bytes = whole
            bytes[position] ^= 0xff
            _ = EntryPayload.isFrugal(Bytes(bytes))
        }
    }
}
