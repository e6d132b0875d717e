// A peer that lags further than the log goes is sent a snapshot, whatever ends when (RULES 47 to 50).

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Snapshots from peer to peer")
struct SnapshotTests {
    static let region = RegionID(2)
    static let key: Bytes = "1"

    /// Three nodes, of which one has missed so much that the others' logs do not have it any more.
    struct Lagging {
        let cluster: TestCluster
        let leader: Int
        let lagging: Int
        var third: Int { 3 - leader - lagging }
        /// What must be read in the end.
        var expected: [Bytes: Bytes]
    }

    static func lagging(
        storeSeed: UInt64 = 5, chunkBytes: Int = 256, worker: HeldWorker? = nil,
        making: HeldWorker? = nil,
        options: @escaping (inout NodeOptions) -> Void = { _ in }
    ) throws -> Lagging {
        let cluster = TestCluster(
            nodes: 3, regions: 2, storeSeed: storeSeed, flushesUnasked: false
        ) {
            $0.compactionInterval = 4
            $0.maxLogEntries = 4
            $0.maxUnflushedLogBytes = 1
            $0.snapshotChunkBytes = chunkBytes
            options(&$0)
        }
        worker?.isHolding = false
        making?.isHolding = false
        cluster.worker = { member, name in
            switch name {
            case "ukehi-install" where member == 1: worker
            case "ukehi-snapshot" where member != 1: making
            default: nil
            }
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        // The second member is the one that lags: another one has to lead.
        try moveLeader(of: cluster, awayFrom: 1)
        try write(cluster, "before", 3)
        cluster.crash(1, seed: 1)
        let expected = try write(cluster, "after", 40)
        for _ in 0..<4 {
            cluster.pass(milliseconds: 1500)
            flush(cluster)
        }
        let leader = try #require(cluster.leader(of: key))
        let peer = try Self.peer(cluster, leader)
        #expect(peer.log.firstIndex > LogIndex(20), "\(cluster.dump())")
        return Lagging(cluster: cluster, leader: leader, lagging: 1, expected: expected)
    }

    /// Compaction waits for it (RULES 40).
    static func flush(_ cluster: TestCluster) {
        for member in cluster.members { member.store?.completeFlush() }
    }

    static func moveLeader(of cluster: TestCluster, awayFrom number: Int) throws {
        guard cluster.leader(of: key) == number else { return }
        let region = try peer(cluster, number)
        let other = try #require(region.outboxSlots.first?.peer)
        region.raft.transferLeadership(to: other)
        try lane(cluster, number).takeReady(region)
        cluster.pass(milliseconds: 2000)
        #expect(cluster.leader(of: key) != number)
    }

    /// Writes so many values under keys of the region; what there is to be read then.
    @discardableResult
    static func write(
        _ cluster: TestCluster, _ word: String, _ count: Int
    ) throws -> [Bytes: Bytes] {
        var written: [Bytes: Bytes] = [:]
        for number in 0..<count {
            let key = Bytes("1\(number % 20)")
            let value = Bytes("\(word) \(number)")
            guard case .command(.applied)? = try cluster.write(.put(key: key, value: value)) else {
                throw Unexpected(what: "write \(word) \(number)\n\(cluster.dump())")
            }
            written[key] = value
        }
        return written
    }

    struct Unexpected: Error {
        var what: String
    }

    static func lane(_ cluster: TestCluster, _ number: Int) throws -> Lane {
        try #require(cluster.members[number].core?.lanes[0])
    }
    static func peer(_ cluster: TestCluster, _ number: Int) throws -> Region {
        try #require(try lane(cluster, number).regions[region])
    }
    static func files(_ cluster: TestCluster, _ number: Int) throws -> [String] {
        try cluster.members[number].fileSystem.list("data/snapshots")
    }
    static func isOf(_ packet: QueueNetwork.Packet, _ kind: MessageKind) -> Bool {
        packet.messages.contains { $0.message.kind == kind }
    }

    /// The peer that lagged has it all, and so has its disk.
    static func expectCaughtUp(_ lagging: Lagging) throws {
        let cluster = lagging.cluster
        let peers = try cluster.members.indices.map { try peer(cluster, $0) }
        #expect(Set(peers.map(\.applied)).count == 1, "\(cluster.dump())")
        #expect(peers.allSatisfy { $0.replacement == nil })
        let digests = try cluster.members.map { member in
            try member.core?.applier.digest(region: region)
        }
        #expect(Set(digests).count == 1)
        for (key, value) in lagging.expected {
            guard
                case .value(let found) =
                    try lane(cluster, lagging.lagging).applier.read(
                        region: region, .get(key), tier: .any)
            else { throw Unexpected(what: "no value of \(key)") }
            #expect(found?.value == value)
        }
        for number in cluster.members.indices {
            #expect(try files(cluster, number) == [])
            let lane = try lane(cluster, number)
            #expect(lane.snapshots.isIdle)
            let disk = cluster.members[number].fileSystem
            #expect(WALInspector(fileSystem: disk, directory: "data/wal").verify().problem == nil)
        }
        #expect(cluster.failures.isEmpty)
    }

    // MARK: Catching up

    @Test("a peer that lags further than the log goes is brought on")
    func catchesUp() throws {
        let lagging = try Self.lagging()
        let cluster = lagging.cluster
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 4000)
        try Self.expectCaughtUp(lagging)
        let peer = try Self.peer(cluster, lagging.lagging)
        #expect(peer.log.firstIndex > LogIndex(20))
        // And it goes on from there, by entries, through another crash.
        try Self.write(cluster, "more", 3)
        cluster.pass(milliseconds: 1000)
        cluster.crash(lagging.lagging, seed: 2)
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 2000)
        #expect(
            try Self.peer(cluster, lagging.lagging).applied
                == Self.peer(cluster, lagging.leader).applied)
        #expect(cluster.failures.isEmpty)
    }

    @Test("nothing is made before the peer has asked for it")
    func precheck() throws {
        let lagging = try Self.lagging()
        let cluster = lagging.cluster
        cluster.network.drops = { Self.isOf($0, .snapshotRequest) }
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 3000)
        #expect(try Self.lane(cluster, lagging.leader).snapshots.outgoing.count == 1)
        #expect(try Self.files(cluster, lagging.leader) == [])
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 6000)
        try Self.expectCaughtUp(lagging)
    }

    @Test("a transfer goes on where it was broken off, and is not made again")
    func resumes() throws {
        let lagging = try Self.lagging(chunkBytes: 64)
        let cluster = lagging.cluster
        var offsets: [UInt64] = []
        var ids: Set<UInt64> = []
        cluster.network.drops = { packet in
            for message in packet.messages where message.message.kind == .snapshotChunk {
                guard let chunk = SnapshotChunk(message.message.context) else { continue }
                offsets.append(chunk.offset)
                ids.insert(chunk.snapshot)
                // The way is cut for a while after some chunks, again and again.
                return offsets.count % 3 == 0
            }
            return false
        }
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 12000)
        try Self.expectCaughtUp(lagging)
        #expect(ids.count == 1)
        #expect(offsets.filter { $0 == 0 }.count == 1)
        #expect(offsets.count > 6, "a snapshot of so few chunks proves nothing")
    }

    @Test("who sends may end: the next leader begins anew")
    func senderEnds() throws {
        let lagging = try Self.lagging(chunkBytes: 64)
        let cluster = lagging.cluster
        var chunks = 0
        cluster.network.drops = { packet in
            guard Self.isOf(packet, .snapshotChunk) else { return false }
            chunks += 1
            return chunks > 2
        }
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1000)
        #expect(chunks > 2)
        cluster.crash(lagging.leader, seed: 3)
        cluster.network.drops = { _ in false }
        try cluster.start(lagging.leader)
        cluster.pass(milliseconds: 15000)
        try Self.expectCaughtUp(lagging)
    }

    @Test("the log that the peer needs behind the snapshot stays while it is sent")
    func floor() throws {
        let lagging = try Self.lagging(chunkBytes: 64)
        var held = lagging
        let cluster = lagging.cluster
        var isCut = false
        cluster.network.drops = { packet in
            guard Self.isOf(packet, .snapshotChunk) else { return false }
            // One chunk a second: slow, but alive.
            defer { isCut = true }
            return isCut
        }
        try cluster.start(lagging.lagging)
        for round in 0..<6 {
            held.expected.merge(try Self.write(cluster, "during \(round)", 20)) { $1 }
            cluster.pass(milliseconds: 1000)
            isCut = false
        }
        let leader = try Self.peer(cluster, lagging.leader)
        let outgoing = try #require(
            try Self.lane(cluster, lagging.leader).snapshots.outgoing.first)
        #expect(leader.log.firstIndex <= outgoing.floor + 1)
        #expect(leader.applied.rawValue > outgoing.floor.rawValue + 60)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 8000)
        try Self.expectCaughtUp(held)
        // And only so long.
        try Self.write(cluster, "last", 5)
        cluster.pass(milliseconds: 3000)
        #expect(leader.log.firstIndex > outgoing.floor + 1)
    }

    // MARK: What can go wrong

    @Test("an installation that ends anywhere is gone on with, and ends well")
    func restartsAnywhere() throws {
        // So many pieces of work are done before the power is cut; then the log still has to follow.
        for pieces in 0..<12 {
            for logIsHeld in [false, true] {
                let worker = HeldWorker()
                let lagging = try Self.lagging(worker: worker)
                let cluster = lagging.cluster
                worker.isHolding = true
                try cluster.start(lagging.lagging)
                for _ in 0..<pieces {
                    cluster.pass(milliseconds: 100)
                    if worker.held.count == 1, logIsHeld {
                        cluster.heldLogs = [lagging.lagging]
                    }
                    worker.releaseOne()
                }
                cluster.settle()
                cluster.crash(lagging.lagging, seed: UInt64(pieces))
                cluster.heldLogs = []
                worker.forget()
                worker.isHolding = false
                try cluster.start(lagging.lagging)
                cluster.pass(milliseconds: 8000)
                try Self.expectCaughtUp(lagging)
            }
        }
    }

    @Test("a peer that is being replaced votes")
    func votesMeanwhile() throws {
        let worker = HeldWorker()
        let lagging = try Self.lagging(worker: worker)
        let cluster = lagging.cluster
        worker.isHolding = true
        try cluster.start(lagging.lagging)
        // Everything but the installation itself.
        while try Self.lane(cluster, lagging.lagging).regions[Self.region]?.replacement == nil {
            worker.releaseOne()
            cluster.pass(milliseconds: 100)
        }
        cluster.crash(lagging.leader, seed: 4)
        cluster.pass(milliseconds: 8000)
        #expect(cluster.leader(of: Self.key) == lagging.third, "\(cluster.dump())")
        let peer = try Self.peer(cluster, lagging.lagging)
        #expect(peer.replacement?.stage == .installing)
        let term = peer.raft.term
        worker.release()
        worker.isHolding = false
        cluster.pass(milliseconds: 3000)
        try cluster.start(lagging.leader)
        cluster.pass(milliseconds: 8000)
        try Self.expectCaughtUp(lagging)
        // The vote was kept through the reset, which was decided on before it.
        #expect(peer.persistedTerm >= term)
        cluster.crash(lagging.lagging, seed: 5)
        try cluster.start(lagging.lagging)
        cluster.settle()
        #expect(try Self.peer(cluster, lagging.lagging).persistedTerm >= term)
    }

    @Test("nothing is read of a region that is being replaced, stale or not")
    func readsMeanwhile() throws {
        let worker = HeldWorker()
        let lagging = try Self.lagging(worker: worker)
        let cluster = lagging.cluster
        worker.isHolding = true
        try cluster.start(lagging.lagging)
        cluster.settle()
        guard case .value? = cluster.read("10", at: lagging.lagging, .stale) else {
            throw Unexpected(what: "no stale read before")
        }
        while try Self.lane(cluster, lagging.lagging).regions[Self.region]?.replacement == nil {
            worker.releaseOne()
            cluster.pass(milliseconds: 100)
        }
        guard
            case .failed(.rejected(.notLeader))? =
                cluster.read("10", at: lagging.lagging, .stale)
        else { throw Unexpected(what: "a stale read meanwhile") }
        worker.release()
        worker.isHolding = false
        cluster.pass(milliseconds: 3000)
        guard case .value(let found)? = cluster.read("10", at: lagging.lagging, .stale) else {
            throw Unexpected(what: "no stale read afterwards")
        }
        #expect(found?.value == lagging.expected["10"])
        try Self.expectCaughtUp(lagging)
    }

    @Test("a snapshot that rots before it is checked is refused, and another one is taken")
    func rots() throws {
        let worker = HeldWorker()
        let lagging = try Self.lagging(worker: worker)
        let cluster = lagging.cluster
        worker.isHolding = true
        try cluster.start(lagging.lagging)
        let disk = cluster.members[lagging.lagging].fileSystem
        var isRotten = false
        for _ in 0..<200 {
            cluster.pass(milliseconds: 50)
            if !isRotten, let path = try Self.files(cluster, lagging.lagging).first,
                try Self.lane(cluster, lagging.lagging).snapshots.incoming.first
                    .map({ if case .checking = $0.stage { true } else { false } }) ?? false,
                worker.held.count == 1
            {
                let file = "data/snapshots/" + path
                let middle = try #require(disk.contents(file)).count / 2
                let old = try #require(disk.contents(file)?[middle])
                disk.damage(file, at: middle, with: [old ^ 1])
                isRotten = true
            }
            worker.releaseOne()
        }
        #expect(isRotten)
        worker.isHolding = false
        worker.release()
        cluster.pass(milliseconds: 8000)
        try Self.expectCaughtUp(lagging)
    }

    /// On either side: the leader's disk takes no snapshot file, or the lagging peer's does not.
    @Test("a disk that takes no snapshot is not asked again and again", arguments: [false, true])
    func diskFull(_ isLeaders: Bool) throws {
        let lagging = try Self.lagging()
        let cluster = lagging.cluster
        let tries = Tries()
        let disk = cluster.members[isLeaders ? lagging.leader : lagging.lagging].fileSystem
        disk.setHook { (operation) throws(FileError) in
            guard [.create, .write].contains(operation.kind),
                operation.path.hasPrefix("data/snapshots/")
            else {
                return
            }
            tries.increment()
            throw FileError(kind: .noSpace, operation: "pwrite", path: operation.path)
        }
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 20_000)
        // The node goes on, and so do those that it serves.
        #expect((1...5).contains(tries.count), "\(tries.count) tries")
        #expect(cluster.failures.isEmpty)
        disk.setHook(nil)
        cluster.pass(milliseconds: 12_000)
        try Self.expectCaughtUp(lagging)
    }

    @Test("writes that a deposed leader was replaced past are answered: nobody knows")
    func deposed() throws {
        let lagging = try Self.lagging()
        let cluster = lagging.cluster
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 4000)
        let old = try #require(cluster.leader(of: Self.key))
        let node = try #require(cluster.members[old].core?.nodeID)
        cluster.network.drops = { $0.from == node || $0.to == node }
        let record = try Command.put(key: Self.key, value: "lost").encoded()
        let tag = cluster.submit(old, .write(record: record), key: Self.key)
        cluster.pass(milliseconds: 4000)
        var expected = lagging.expected
        expected.merge(try Self.write(cluster, "others", 60)) { $1 }
        cluster.pass(milliseconds: 4000)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 8000)
        guard case .failed(.outcomeUnknown)? = cluster.sink.replies[tag] else {
            Issue.record("\(String(describing: cluster.sink.replies[tag]))")
            return
        }
        try Self.expectCaughtUp(
            Lagging(
                cluster: cluster, leader: try #require(cluster.leader(of: Self.key)), lagging: old,
                expected: expected))
    }

    // MARK: What others may say

    @Test("parts of a snapshot that nobody asked for, or of another one, change nothing")
    func unasked() throws {
        let lagging = try Self.lagging()
        let cluster = lagging.cluster
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 4000)
        let peer = try Self.peer(cluster, lagging.lagging)
        let leader = try Self.peer(cluster, lagging.leader)
        let from = try #require(cluster.members[lagging.leader].core?.nodeID)
        let applied = peer.applied
        let chunk = SnapshotChunk(
            snapshot: 7, totalBytes: 4, offset: 0, bytes: Bytes([1, 2, 3, 4]))
        for context in [chunk.encoded(), Bytes(), Bytes([1, 2, 3])] {
            for kind in [MessageKind.snapshotChunk, .snapshotRequest] {
                for reject in [false, true] {
                    let message = Message(
                        kind: kind, to: peer.peer, from: leader.peer, term: leader.raft.term,
                        reject: reject, context: context)
                    cluster.members[lagging.lagging].core?.received(
                        [
                            RegionMessage(
                                region: Self.region, epoch: peer.descriptor.epoch,
                                message: message)
                        ], from: from)
                    cluster.settle()
                }
            }
        }
        #expect(peer.applied == applied)
        try Self.expectCaughtUp(lagging)
    }

    @Test("an offer of what the peer has makes no transfer")
    func nothingNew() throws {
        let lagging = try Self.lagging()
        let cluster = lagging.cluster
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 4000)
        let peer = try Self.peer(cluster, lagging.lagging)
        let leader = try Self.peer(cluster, lagging.leader)
        let message = Message(
            kind: .installSnapshot, to: peer.peer, from: leader.peer, term: leader.raft.term,
            snapshot: Snapshot(
                index: peer.applied, term: leader.raft.term,
                configuration: leader.descriptor.configuration))
        cluster.members[lagging.lagging].core?.received(
            [RegionMessage(region: Self.region, epoch: peer.descriptor.epoch, message: message)],
            from: try #require(cluster.members[lagging.leader].core?.nodeID))
        cluster.settle()
        try Self.expectCaughtUp(lagging)
    }
}

/// Counts from any thread.
private final class Tries: Sendable {
    private let value = Atomic(0)
    func increment() { value.add(1, ordering: .relaxed) }
    var count: Int { value.load(ordering: .relaxed) }
}

@Suite("What is said of snapshots")
struct SnapshotMessageTests {
    @Test("requests and chunks come back as they were, and nothing else is one")
    func codec() throws {
        let request = SnapshotRequest(
            snapshot: 1 << 63, offset: 77, room: 4096, verdict: .givesUp)
        #expect(SnapshotRequest(request.encoded()) == request)
        var needs = request
        needs.verdict = .needsState
        #expect(SnapshotRequest(needs.encoded()) == needs)
        var unknown = needs.encoded().array
        unknown[20] = 4
        #expect(SnapshotRequest(Bytes(unknown)) == nil)
        let chunk = SnapshotChunk(
            snapshot: 9, totalBytes: 100, offset: 90, bytes: Bytes([1, 2, 3, 4, 5]))
        #expect(SnapshotChunk(chunk.encoded()) == chunk)

        for (bytes, isRequest) in [(request.encoded(), true), (chunk.encoded(), false)] {
            for count in 0..<bytes.count {
                let part = bytes[0..<count]
                #expect(SnapshotRequest(part) == nil || !isRequest && count == 24)
                #expect(SnapshotChunk(part) == nil)
            }
        }
        let encoded = chunk.encoded().array
        for position in encoded.indices {
            for bit in 0..<8 {
                var flipped = encoded
                flipped[position] ^= 1 << bit
                // What says which and where is the receiver's to compare; bytes are not.
                let read = SnapshotChunk(Bytes(flipped))
                #expect(read != chunk)
                if position >= 24 { #expect(read == nil) }
            }
        }
        // Lies about lengths.
        for (total, offset) in [(UInt64(4), UInt64(0)), (100, 96), (.max, .max), (0, 5)] {
            let lie = SnapshotChunk(
                snapshot: 1, totalBytes: total, offset: offset, bytes: Bytes([1, 2, 3, 4, 5]))
            #expect(SnapshotChunk(lie.encoded()) == nil)
        }
    }

    @Test("a mark's name is its file's, and no other name is one")
    func marks() {
        let mark = SnapshotMark(
            region: RegionID(3), peer: PeerID(11), index: LogIndex(1 << 40), term: Term(9))
        #expect(SnapshotMark(name: mark.name) == mark)
        for name in [
            "", "install", "install-1-2-3", "install-1-2-3-4-5", "install-1-2-3-x",
            "install-01-2-3-4", "install--1-2-3-4", "install-1-2-3-4.part", "out-1-2-3-4",
            "install-1-2-3-18446744073709551615", "install-1-2-3-99999999999999999999999",
        ] {
            #expect(SnapshotMark(name: name) == nil, "\(name)")
        }
    }
}

extension HeldWorker {
    /// Does the oldest piece of work there is.
    func releaseOne() {
        guard !held.isEmpty else { return }
        takeFirst()()
    }
}
