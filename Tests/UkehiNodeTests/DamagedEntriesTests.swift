// Entries that a node's log holds and cannot read: got back from whoever has them, with or without a
// leader; what cannot be had back stops one peer and no more (Lane+Mending.swift).

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Damaged entries")
struct DamagedEntriesTests {
    /// Of two user regions the first one, whose entries rot, and a key of the other one.
    private static let region = RegionID(2)
    private static let key: Bytes = "1"
    private static let otherKey: Bytes = "z"

    /// Three nodes that repair, with a leader and some entries in either region.
    private func cluster(
        policy: DamagePolicy = .repair, storeSeed: UInt64? = nil, segmentBytes: Int = 1 << 20,
        compactionInterval: Int = 1000, writes: Int = 20
    ) throws -> (cluster: TestCluster, leader: Int) {
        let cluster = TestCluster(
            nodes: 3, regions: 2, storeSeed: storeSeed, flushesUnasked: false
        ) { $0.compactionInterval = compactionInterval }
        cluster.logOptions = {
            $0.damagePolicy = policy
            $0.segmentBytes = segmentBytes
            $0.scrubBytesPerSecond = 1 << 30
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        try write(writes, to: cluster)
        return (cluster, try #require(cluster.leader(of: Self.key)))
    }

    private func write(_ count: Int, to cluster: TestCluster, key: Bytes = Self.key) throws {
        for number in 0..<count {
            guard
                case .command(.applied)? = try cluster.write(
                    .put(key: key, value: Bytes("v\(number)")))
            else { throw Unexpected(what: "write \(number)\n\(cluster.dump())") }
        }
    }

    private struct Unexpected: Error {
        var what: String
    }

    private func lane(_ cluster: TestCluster, _ number: Int) throws -> Lane {
        try #require(cluster.members[number].core?.lanes[0])
    }

    private func peer(
        _ cluster: TestCluster, _ number: Int, _ region: RegionID = Self.region
    ) throws -> Region {
        try #require(try lane(cluster, number).regions[region])
    }

    private func hopes(_ cluster: TestCluster, _ number: Int) throws -> [NodeID]? {
        try lane(cluster, number).hopes(of: Self.region)
    }

    private func isDamaged(_ cluster: TestCluster, _ number: Int) throws -> Bool {
        try hopes(cluster, number) != nil
    }

    /// What a node's disk holds of the region's entries, by index; the newest of each.
    private func places(_ cluster: TestCluster, _ number: Int) throws -> [UInt64: LogPosition] {
        var places: [UInt64: LogPosition] = [:]
        try WALInspector(
            fileSystem: cluster.members[number].fileSystem, directory: "data/wal"
        ).dump { record in
            if case .entry(let entry) = record, entry.region == Self.region {
                places[entry.index.rawValue] = entry.position
            }
            return true
        }
        return places
    }

    /// Flips a bit of each of these entries. Each is a body of its own here.
    private func rot(_ cluster: TestCluster, _ number: Int, _ indexes: [UInt64]) throws {
        let places = try places(cluster, number)
        for index in indexes {
            let place = try #require(places[index], "\(index) of \(places.keys.sorted())")
            let path = "data/wal/" + LogNames.segment(place.segment)
            let disk = cluster.members[number].fileSystem
            let at = Int(place.offset) + 9
            let old = try #require(disk.contents(path)?[at])
            disk.damage(path, at: at, with: [old ^ 4])
        }
    }

    /// Nothing is read wrong on any disk, and all of them stand at the same place.
    private func expectWhole(_ cluster: TestCluster, mended: [Int: UInt64]) throws {
        let applied = try cluster.members.indices.map { try peer(cluster, $0).applied }
        #expect(Set(applied).count == 1, "\(cluster.dump())")
        for number in cluster.members.indices {
            #expect(try !isDamaged(cluster, number) && lane(cluster, number).holes == 0)
            #expect(
                cluster.members[number].core?.log.statistics.mendedBodies == mended[number] ?? 0)
            let disk = cluster.members[number].fileSystem
            #expect(WALInspector(fileSystem: disk, directory: "data/wal").verify().problem == nil)
        }
        #expect(cluster.failures.isEmpty)
    }

    /// Has a core ask for entries that are not in memory, as one that is behind does.
    private func fetch(_ cluster: TestCluster, _ number: Int, _ index: UInt64) throws {
        let peer = try peer(cluster, number)
        #expect(throws: LogStorageError.temporarilyUnavailable) {
            _ = try peer.log.entries(
                from: LogIndex(index), to: LogIndex(index + 1), maxBytes: 1 << 20)
        }
        try lane(cluster, number).takeReady(peer)
        cluster.settle()
    }

    private static func isOf(_ packet: QueueNetwork.Packet, _ kind: MessageKind) -> Bool {
        packet.messages.contains { $0.message.kind == kind }
    }

    // MARK: Followers

    @Test(
        "a follower stands still before the first hole, votes and acknowledges, and goes on mended")
    func follower() throws {
        let (cluster, leader) = try cluster()
        let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3)
        let last = try peer(cluster, follower).log.lastIndex.rawValue
        let holes = [last - 10, last - 9, last - 3]
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, holes)
        cluster.network.drops = { Self.isOf($0, .requestEntriesResponse) }
        // Nothing of the state is left, so that all entries are applied again.
        try cluster.start(follower)
        cluster.pass(milliseconds: 3000)
        #expect(try isDamaged(cluster, follower))
        #expect(try lane(cluster, follower).holes == 3)
        #expect(try hopes(cluster, follower)?.count == 2)
        #expect(try peer(cluster, follower).raft.isDamaged == true)
        #expect(try peer(cluster, follower).applied.rawValue == holes[0] - 1)
        #expect(try !isDamaged(cluster, leader) && !isDamaged(cluster, third))

        // It is needed for a quorum now. The node's other region runs on.
        cluster.crash(third, seed: 2)
        try write(3, to: cluster)
        cluster.pass(milliseconds: 5000)
        try write(3, to: cluster, key: Self.otherKey)
        cluster.pass(milliseconds: 500)
        #expect(cluster.leader(of: Self.key) == leader)
        #expect(try peer(cluster, follower).applied.rawValue == holes[0] - 1)
        let other = RegionID(3)
        #expect(
            try peer(cluster, follower, other).applied == peer(cluster, leader, other).applied)
        try cluster.start(third)
        cluster.pass(milliseconds: 1000)
        // And for another leader, which it is not.
        cluster.crash(leader, seed: 4)
        cluster.pass(milliseconds: 10_000)
        #expect(cluster.leader(of: Self.key) == third)
        try write(3, to: cluster)
        try cluster.start(leader)
        cluster.pass(milliseconds: 1000)

        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 5000)
        try expectWhole(cluster, mended: [follower: 3])
        guard case .value(let found)? = cluster.read(Self.key, at: follower, .stale) else {
            Issue.record("no answer")
            return
        }
        #expect(found?.value == "v2")
        // It may lead again.
        #expect(try peer(cluster, follower).raft.isDamaged == false)
        // And all of it is there after a power cut.
        cluster.crash(follower, seed: 3)
        try cluster.start(follower)
        cluster.pass(milliseconds: 2000)
        try expectWhole(cluster, mended: [:])
    }

    @Test("entries on their way to the log's end are a hole until they are durable")
    func writtenAnew() throws {
        let (cluster, leader) = try cluster()
        let follower = (leader + 1) % 3
        let last = try peer(cluster, follower).log.lastIndex.rawValue
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, [last - 5])
        cluster.network.drops = { Self.isOf($0, .requestEntriesResponse) }
        try cluster.start(follower)
        cluster.pass(milliseconds: 3000)
        let lane = try lane(cluster, follower)
        let hole = try #require(try peer(cluster, follower).holes.first)
        // There was no room for them: they are asked for again.
        try peer(cluster, follower).holes[0].progress = .mending
        var asked = 0
        cluster.network.drops = {
            asked += Self.isOf($0, .requestEntries) ? 1 : 0
            return Self.isOf($0, .requestEntriesResponse)
        }
        lane.mended(hole.entries, .later)
        cluster.settle()
        #expect(asked == 0)
        #expect(try peer(cluster, follower).holes.map(\.progress) == [.asking])
        #expect(try isDamaged(cluster, follower))
        // The next one that is given out.
        let ticket = lane.log.scheduler.lastTicket + 1
        lane.mended(hole.entries, .writtenAnew(ticket))
        #expect(try peer(cluster, follower).holes.map(\.progress) == [.writing(ticket)])
        #expect(try isDamaged(cluster, follower) && lane.holes == 1)
        // Once it is durable they are read again; here they are as rotten as before.
        cluster.network.drops = { _ in false }
        try write(3, to: cluster)
        cluster.pass(milliseconds: 5000)
        try expectWhole(cluster, mended: [follower: 1])
    }

    @Test("a node that does not get an answer asks the next one")
    func asksInTurn() throws {
        let (cluster, leader) = try cluster()
        let follower = (leader + 1) % 3
        let last = try peer(cluster, follower).log.lastIndex.rawValue
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, [last - 5])
        for silent in [leader, (leader + 2) % 3] {
            let node = try #require(cluster.members[silent].core?.nodeID)
            var asked = 0
            cluster.network.drops = { packet in
                if Self.isOf(packet, .requestEntries), packet.to == node { asked += 1 }
                return Self.isOf(packet, .requestEntriesResponse) && packet.from == node
            }
            try cluster.start(follower)
            cluster.pass(milliseconds: 5000)
            #expect(try !isDamaged(cluster, follower), "\(silent)")
            #expect(asked <= 3)
            guard silent == leader else { break }
            cluster.crash(follower, seed: 2)
            try rot(cluster, follower, [last - 5])
        }
        try expectWhole(cluster, mended: [follower: 1])
    }

    @Test("a peer that is asked and finds its own copy rotten gets it from the third")
    func askedPeer() throws {
        let (cluster, leader) = try cluster()
        let follower = (leader + 1) % 3
        let last = try peer(cluster, follower).log.lastIndex.rawValue
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, [last - 5])
        // Nothing looked at it since it was written.
        let third = (leader + 2) % 3
        try rot(cluster, third, [last - 5])
        let node = try #require(cluster.members[leader].core?.nodeID)
        cluster.network.drops = { packet in
            packet.to == node && Self.isOf(packet, .requestEntries)
        }
        try cluster.start(follower)
        cluster.pass(milliseconds: 3000)
        #expect(try isDamaged(cluster, follower) && isDamaged(cluster, third))
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 5000)
        try expectWhole(cluster, mended: [follower: 1, third: 1])
    }

    // MARK: Leaders

    @Test("a leader that cannot read its entries gives way at once, and gets them back")
    func leader() throws {
        let (cluster, leader) = try cluster()
        let last = try peer(cluster, leader).log.lastIndex.rawValue
        let term = try peer(cluster, leader).raft.term
        try rot(cluster, leader, [last - 5])
        cluster.network.drops = { Self.isOf($0, .requestEntriesResponse) }
        try fetch(cluster, leader, last - 5)
        #expect(try isDamaged(cluster, leader))
        // No time has passed.
        let next = try #require(cluster.leader(of: Self.key))
        #expect(next != leader)
        #expect(try peer(cluster, next).raft.term.rawValue == term.rawValue + 1)
        try write(3, to: cluster)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.leader(of: Self.key) == next)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 2000)
        try expectWhole(cluster, mended: [leader: 1])
    }

    @Test("no leader is needed: two of three are damaged, the third is away")
    func leaderless() throws {
        let (cluster, leader) = try cluster()
        let last = try peer(cluster, leader).log.lastIndex.rawValue
        for number in 0..<3 { cluster.crash(number, seed: UInt64(number)) }
        let away = (leader + 2) % 3
        let (one, two) = (leader, (leader + 1) % 3)
        try rot(cluster, one, [last - 8, last - 1])
        try rot(cluster, two, [last - 5])
        cluster.network.drops = { Self.isOf($0, .requestEntriesResponse) }
        for number in [one, two] { try cluster.start(number) }
        cluster.pass(milliseconds: 10_000)
        #expect(try isDamaged(cluster, one) && isDamaged(cluster, two))
        #expect(cluster.leader(of: Self.key) == nil)
        #expect(cluster.leader(of: Self.otherKey) != nil)
        #expect(try peer(cluster, one).raft.term == peer(cluster, two).raft.term)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 5000)
        try write(3, to: cluster)
        try cluster.start(away)
        cluster.pass(milliseconds: 3000)
        try expectWhole(cluster, mended: [one: 2, two: 1])
    }

    // MARK: Beyond repair

    /// A follower that cannot read an entry which it has not applied and nobody has any more.
    private func beyondRepair() throws -> (
        cluster: TestCluster, leader: Int, follower: Int, hole: UInt64
    ) {
        let (cluster, leader) = try cluster(storeSeed: 5, compactionInterval: 8)
        let follower = (leader + 1) % 3
        cluster.pass(milliseconds: 2000)
        let hole = try peer(cluster, follower).log.lastIndex.rawValue - 2
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, [hole])
        // The others drop it: the follower has acknowledged all there was.
        for _ in 0..<3 {
            for member in cluster.members where member.core != nil {
                member.store?.requestFlush()
                member.store?.completeFlush()
            }
            cluster.pass(milliseconds: 2000)
        }
        for number in [leader, (leader + 2) % 3] {
            #expect(try peer(cluster, number).log.firstIndex.rawValue > hole, "\(cluster.dump())")
        }
        return (cluster, leader, follower, hole)
    }

    @Test("what every peer has compacted away is beyond repair; the node's other regions run on")
    func compacted() throws {
        let (cluster, leader, follower, hole) = try beyondRepair()
        // No leader gives it a snapshot.
        cluster.network.drops = { Self.isOf($0, .snapshotRequest) }
        try cluster.start(follower)
        cluster.pass(milliseconds: 5000)
        #expect(try hopes(cluster, follower) == [])
        #expect(try peer(cluster, follower).applied.rawValue == hole - 1)
        #expect(try peer(cluster, follower).raft.isDamaged == true)
        try write(3, to: cluster)
        try write(3, to: cluster, key: Self.otherKey)
        cluster.pass(milliseconds: 1000)
        let other = RegionID(3)
        #expect(
            try peer(cluster, follower, other).applied == peer(cluster, leader, other).applied)
        #expect(try peer(cluster, follower).log.lastIndex == peer(cluster, leader).log.lastIndex)
        #expect(cluster.failures.isEmpty)
    }

    private func expectReplaced(_ cluster: TestCluster, _ follower: Int, _ leader: Int) throws {
        let mended = try peer(cluster, follower)
        #expect(try !isDamaged(cluster, follower), "\(cluster.dump())")
        #expect(mended.raft.isDamaged == false)
        #expect(mended.applied == (try peer(cluster, leader)).applied, "\(cluster.dump())")
        let digests = try (0..<3).map {
            try cluster.members[$0].core?.applier.digest(region: Self.region)
        }
        #expect(Set(digests).count == 1)
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "the leader gives the state behind them, in a region that rests as in one that is written")
    func replaced() throws {
        for isWritten in [false, true] {
            let (cluster, leader, follower, _) = try beyondRepair()
            var chunks = 0
            cluster.network.drops = { packet in
                if Self.isOf(packet, .snapshotChunk) { chunks += 1 }
                return false
            }
            try cluster.start(follower)
            for _ in 0..<20 {
                cluster.pass(milliseconds: 300)
                if isWritten { try write(3, to: cluster) }
            }
            cluster.pass(milliseconds: 2000)
            #expect(chunks > 0)
            try expectReplaced(cluster, follower, leader)
            // What it acknowledged counts: it goes on from there, through a crash.
            try write(3, to: cluster)
            cluster.pass(milliseconds: 1000)
            cluster.crash(follower, seed: 3)
            try cluster.start(follower)
            cluster.pass(milliseconds: 3000)
            try expectReplaced(cluster, follower, leader)
        }
    }

    @Test("it is not waited for members that never answer where the leader has the state")
    func silentMember() throws {
        let (cluster, leader, follower, _) = try beyondRepair()
        let third = try #require(cluster.members[(leader + 2) % 3].core?.nodeID)
        cluster.network.drops = { $0.from == third && Self.isOf($0, .requestEntriesResponse) }
        try cluster.start(follower)
        cluster.pass(milliseconds: 2000)
        #expect(try hopes(cluster, follower) == [third])
        #expect(try lane(cluster, leader).snapshots.isIdle)
        cluster.pass(milliseconds: 4000)
        try expectReplaced(cluster, follower, leader)
    }

    @Test("who asks for the state goes on to ask for the entries")
    func lateAnswer() throws {
        let (cluster, leader) = try cluster(storeSeed: 5, compactionInterval: 8)
        let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3)
        let hole = try peer(cluster, follower).log.lastIndex.rawValue - 2
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, [hole])
        // The leader drops them, and the third, whose state is not flushed, does not.
        for _ in 0..<3 {
            cluster.members[leader].store?.requestFlush()
            cluster.members[leader].store?.completeFlush()
            cluster.pass(milliseconds: 2000)
        }
        let firsts = try [leader, third].map { try peer(cluster, $0).log.firstIndex.rawValue }
        #expect(firsts[0] > hole && firsts[1] <= hole)
        let node = try #require(cluster.members[third].core?.nodeID)
        var cut: NodeID? = node
        cluster.network.drops = {
            Self.isOf($0, .installSnapshot)
                || $0.from == cut && Self.isOf($0, .requestEntriesResponse)
        }
        try cluster.start(follower)
        cluster.pass(milliseconds: 6000)
        #expect(try lane(cluster, follower).needsState(peer(cluster, follower)))
        #expect(try hopes(cluster, follower) == [node])
        cut = nil
        cluster.pass(milliseconds: 3000)
        #expect(try !isDamaged(cluster, follower), "\(cluster.dump())")
        #expect(cluster.members[follower].core?.log.statistics.mendedBodies == 1)
        #expect(cluster.failures.isEmpty)
    }

    @Test("nothing is dropped that it has acknowledged, while all of it is on its way")
    func keepsAcknowledged() throws {
        let (cluster, leader, follower, _) = try beyondRepair()
        var isCut = true
        cluster.network.drops = { isCut && Self.isOf($0, .snapshotChunk) }
        try cluster.start(follower)
        cluster.pass(milliseconds: 1500)
        let damaged = try peer(cluster, follower)
        let held = damaged.raft.lastIndex
        #expect(try lane(cluster, follower).takesNoEntries(damaged))
        try write(5, to: cluster)
        cluster.pass(milliseconds: 500)
        #expect(damaged.raft.lastIndex == held)
        let outgoing = try #require(try lane(cluster, leader).snapshots.outgoing.first)
        #expect(outgoing.floor > held, "the snapshot ends past what was acknowledged")
        isCut = false
        cluster.pass(milliseconds: 6000)
        try expectReplaced(cluster, follower, leader)
    }

    @Test("where the others could not commit without it, it goes on to acknowledge instead")
    func isNeeded() throws {
        let (cluster, leader, follower, _) = try beyondRepair()
        let third = (leader + 2) % 3
        cluster.network.drops = { Self.isOf($0, .snapshotRequest) }
        try cluster.start(follower)
        cluster.pass(milliseconds: 3000)
        cluster.crash(third, seed: 9)
        cluster.pass(milliseconds: 3000)
        cluster.network.drops = { _ in false }
        for _ in 0..<5 {
            try write(3, to: cluster)
            cluster.pass(milliseconds: 500)
        }
        #expect(try lane(cluster, leader).snapshots.isIdle)
        #expect(try peer(cluster, follower).raft.isDamaged)
        try cluster.start(third)
        cluster.pass(milliseconds: 8000)
        try expectReplaced(cluster, follower, leader)
    }

    @Test("entries that do not make up what was there are in the way until the log is compacted")
    func mismatch() throws {
        let (cluster, leader) = try cluster(storeSeed: 5, compactionInterval: 8)
        let follower = (leader + 1) % 3
        let peer = try peer(cluster, follower)
        let hole = LogIndex(peer.log.lastIndex.rawValue - 5)
        try rot(cluster, follower, [hole.rawValue])
        cluster.network.drops = { Self.isOf($0, .requestEntries) }
        try fetch(cluster, follower, hole.rawValue)
        #expect(try isDamaged(cluster, follower))
        // As a disk that gives other bytes with the same checksum would make a peer say.
        let from = try self.peer(cluster, leader)
        let node = try #require(cluster.members[leader].core?.nodeID)
        let answer = Message(
            kind: .requestEntriesResponse, to: peer.peer, from: from.peer, term: from.raft.term,
            index: hole - 1, entries: [Entry(term: from.raft.term, index: hole, data: "other")])
        cluster.members[follower].core?.received(
            [RegionMessage(region: Self.region, epoch: peer.descriptor.epoch, message: answer)],
            from: node)
        cluster.settle()
        #expect(try hopes(cluster, follower) == [])
        #expect(cluster.members[follower].core?.log.statistics.mendedBodies == 0)
        // It had applied them already, and drops them in time, as the others do.
        try write(20, to: cluster)
        for _ in 0..<4 {
            for member in cluster.members {
                member.store?.requestFlush()
                member.store?.completeFlush()
            }
            cluster.pass(milliseconds: 2000)
        }
        #expect(try self.peer(cluster, follower).log.firstIndex > hole, "\(cluster.dump())")
        #expect(try !isDamaged(cluster, follower))
        #expect(peer.raft.isDamaged == false)
        #expect(try peer.applied == self.peer(cluster, leader).applied)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a node that is alone and told to repair has nobody to ask; its other regions run on")
    func alone() throws {
        let cluster = TestCluster(nodes: 1, regions: 2)
        cluster.logOptions = { $0.damagePolicy = .repair }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        try write(20, to: cluster)
        let last = try peer(cluster, 0).log.lastIndex.rawValue
        cluster.crash(0, seed: 1)
        try rot(cluster, 0, [last - 8, last - 3])
        try cluster.start(0)
        cluster.pass(milliseconds: 5000)
        #expect(try hopes(cluster, 0) == [])
        #expect(try peer(cluster, 0).holes.allSatisfy { $0.progress == .beyondRepair })
        #expect(try peer(cluster, 0).holes.count == 2)
        #expect(cluster.leader(of: Self.key) == nil)
        try write(3, to: cluster, key: Self.otherKey)
        #expect(cluster.failures.isEmpty)
    }

    // MARK: The background check, and nodes that refuse

    /// Steps the background check of a node until it has gone over all sealed segments.
    private func check(_ cluster: TestCluster, _ number: Int) throws {
        let log = try #require(cluster.members[number].core?.log)
        let rounds = log.statistics.scrubRounds
        for _ in 0..<1000 where log.statistics.scrubRounds == rounds {
            log.scrubStep()
            cluster.clock.advance(milliseconds: 600_000)
        }
        #expect(log.statistics.scrubRounds > rounds)
        cluster.settle()
    }

    @Test("what the background check finds is repaired before anybody reads it")
    func backgroundCheck() throws {
        let (cluster, leader) = try cluster(segmentBytes: 32 << 10)
        let follower = (leader + 1) % 3
        let core = try #require(cluster.members[follower].core)
        let sealed = try #require(core.log.segments.last { $0.end != nil }?.header.segment)
        let places = try places(cluster, follower)
        let hole = try #require(places.filter { $0.value.segment <= sealed }.keys.max())
        try rot(cluster, follower, [hole])
        try check(cluster, follower)
        #expect(core.log.statistics.damagedRanges == 1)
        cluster.pass(milliseconds: 2000)
        try expectWhole(cluster, mended: [follower: 1])
    }

    @Test("a node that repairs nothing does not start with damage, and stops where it finds some")
    func refuses() throws {
        let (cluster, leader) = try cluster(policy: .refuse, segmentBytes: 32 << 10)
        let follower = (leader + 1) % 3
        let last = try peer(cluster, follower).log.lastIndex.rawValue
        let log = try #require(cluster.members[follower].core?.log)
        log.claimIfIdle()
        cluster.settle()
        cluster.crash(follower, seed: 1)
        try rot(cluster, follower, [last])
        #expect(throws: NodeError.self) { try cluster.start(follower) }

        // A read of the leader's finds some.
        try rot(cluster, leader, [last - 5])
        try fetch(cluster, leader, last - 5)
        #expect(cluster.failures.codes == [.corrupted])

        // The third's background check does.
        let third = (leader + 2) % 3
        try rot(cluster, third, [try #require(places(cluster, third).keys.min())])
        try check(cluster, third)
        #expect(cluster.failures.codes.count > 1)
        #expect(cluster.failures.codes.allSatisfy { $0 == .corrupted })
    }
}
