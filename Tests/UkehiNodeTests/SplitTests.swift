// Regions that are divided while they work, on nodes that crash.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

@testable import UkehiNode

@Suite("splits of regions")
struct SplitTests {
    private func started(
        _ nodes: Int = 3, storeSeed: UInt64? = 1, flushesUnasked: Bool = true,
        options: @escaping (inout NodeOptions) -> Void = { _ in }
    ) throws -> TestCluster {
        let cluster = TestCluster(
            nodes: nodes, regions: 1, storeSeed: storeSeed, flushesUnasked: flushesUnasked,
            options: options)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for key in ["a", "g", "n", "t", "z"] as [Bytes] {
            guard case .command(.applied)? = try cluster.write(.put(key: key, value: key)) else {
                Issue.record("\(key) was not written")
                continue
            }
        }
        return cluster
    }

    /// Asks the region's leader to divide it.
    private func split(_ cluster: TestCluster, at keys: [Bytes]) throws -> Reply? {
        let leader = try #require(cluster.leader(of: keys[0]))
        let tag = cluster.submit(leader, .split(keys), key: keys[0])
        cluster.settle()
        cluster.pass(milliseconds: 500)
        return cluster.sink.replies[tag]
    }

    private func regions(_ reply: Reply?) throws -> [RegionInfo] {
        guard case .regions(let regions)? = reply else {
            Issue.record("not divided: \(String(describing: reply))")
            return []
        }
        return regions
    }

    private func expectValues(
        _ cluster: TestCluster, at location: SourceLocation = #_sourceLocation
    ) throws {
        for key in ["a", "g", "n", "t", "z"] as [Bytes] {
            guard let leader = cluster.leader(of: key),
                case .value(let found?)? = cluster.read(key, at: leader)
            else {
                Issue.record("\(key) cannot be read", sourceLocation: location)
                continue
            }
            #expect(found.value == key, sourceLocation: location)
        }
    }

    private func expectEqual(
        _ cluster: TestCluster, _ region: RegionID, on count: Int,
        at location: SourceLocation = #_sourceLocation
    ) throws {
        let digests = try cluster.members.indices.filter { cluster.region($0, region) != nil }
            .compactMap { try cluster.members[$0].core?.applier.digest(region: region) }
        #expect(digests.count == count, sourceLocation: location)
        #expect(Set(digests).count == 1, sourceLocation: location)
    }

    @Test("both halves serve, everywhere, and versions go on", arguments: [nil, 1 as UInt64?])
    func divides(storeSeed: UInt64?) throws {
        let cluster = try started(storeSeed: storeSeed)
        let made = try regions(try split(cluster, at: ["h", "p"]))
        #expect(made.map(\.range.lower) == ["", "h", "p"])
        #expect(made.last?.region == TestCluster.id)
        #expect(made.allSatisfy { $0.epoch.version == 3 })
        try expectValues(cluster)
        for info in made {
            try expectEqual(cluster, info.region, on: 3)
            let leader = try #require(cluster.leads(info.region))
            // Led without a vote: nobody has seen a later term.
            let term = cluster.region(leader, info.region)?.raft.term
            #expect(info.region == TestCluster.id || term == Term(6))
        }
        guard case .command(.applied(let version))? = try cluster.write(.put(key: "a", value: "a"))
        else {
            Issue.record("the new region does not write")
            return
        }
        #expect(version == 6)
        // A region that came out of one is divided as any other.
        let again = try regions(try split(cluster, at: ["b"]))
        #expect(again.count == 2)
        try expectValues(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("what a first leader says before its region is here is heard when it is")
    func earlyAppend() throws {
        let cluster = try started()
        let leader = try #require(cluster.leader(of: "a"))
        let (near, late) = ((leader + 1) % 3, (leader + 2) % 3)
        let nodes = try [near, late].map { try #require(cluster.members[$0].core?.nodeID) }
        var sent = 0
        cluster.network.drops = { packet in
            let known: [RegionID] = [.system, TestCluster.id]
            for item in packet.messages where !known.contains(item.region) {
                // The near one hears nothing of the new region, and the late one does not say that it is here.
                if packet.to == nodes[0] || packet.from == nodes[0] { return true }
                if item.message.kind == .heartbeatResponse { return true }
                guard item.message.kind == .appendEntries, packet.to == nodes[1] else { continue }
                sent += 1
                if sent > 1 { return true }
            }
            return false
        }
        cluster.heldLogs = [late]
        let node = try #require(cluster.members[leader].core?.nodeID)
        let place = try #require(cluster.descriptor()?.peers.firstIndex { $0.node == node })
        let peers = (0..<3).map { PeerID(UInt64(900 + $0)) }
        let command = SplitCommand(parts: [
            .init(region: RegionID(90), end: "h", leader: peers[place], peers: peers)
        ])
        try cluster.members[leader].core?.lanes[0].propose(command, in: TestCluster.id)
        cluster.settle()
        let child = try #require(cluster.region(leader, RegionID(90)))
        #expect(child.isLeader)
        #expect(sent == 1 && child.raft.committed == SplitRules.firstApplied)
        #expect(cluster.region(late, child.id) == nil)
        cluster.heldLogs = []
        cluster.settle()
        #expect(cluster.region(late, child.id) != nil)
        #expect(child.raft.committed == SplitRules.firstApplied + 1)
        #expect(child.applied == SplitRules.firstApplied + 1)
        #expect(cluster.failures.isEmpty)
    }

    @Test("of early appends a few are kept, each region's newest, and nothing large")
    func earlyAppendsAreBounded() {
        var early = EarlyAppends()
        func take(_ region: UInt64, at tick: UInt64 = 0) -> PeerDelivery? {
            early.take(RegionID(region), at: tick)
        }
        func append(_ region: UInt64, index: LogIndex = SplitRules.firstApplied, bytes: Int = 1)
            -> RegionMessage
        {
            RegionMessage(
                region: RegionID(region), epoch: RegionEpoch(confVersion: 1, version: 2),
                message: Message(
                    kind: .appendEntries, to: PeerID(1), from: PeerID(2), term: Term(6),
                    logTerm: SplitRules.firstAppliedTerm, index: index,
                    entries: [
                        Entry(
                            term: Term(6), index: index + 1,
                            data: Bytes([UInt8](repeating: 1, count: bytes)))
                    ]))
        }
        early.keep(append(3, index: SplitRules.firstApplied + 1), from: NodeID(1), at: 0)
        early.keep(append(4, bytes: 1 << 20), from: NodeID(1), at: 0)
        var other = append(5)
        other.message.kind = .heartbeat
        early.keep(other, from: NodeID(1), at: 0)
        for region in 3...5 as ClosedRange<UInt64> { #expect(take(region) == nil) }

        for region in 10..<40 as Range<UInt64> {
            early.keep(append(region), from: NodeID(1), at: 0)
        }
        early.keep(append(39, bytes: 7), from: NodeID(2), at: 0)
        let newest = take(39)
        #expect(newest?.from == NodeID(2))
        #expect(newest?.messages.first?.message.entries.first?.data.count == 7)
        #expect(take(39) == nil)
        // The age of what may be a dead leader's counts, too.
        #expect(take(38, at: 4) != nil && take(37, at: 5) == nil && take(36) == nil)

        for region in 10..<40 as Range<UInt64> {
            early.keep(append(region), from: NodeID(1), at: 9)
        }
        #expect((10..<40).filter { take($0, at: 9) != nil } == Array(24..<40))
    }

    @Test("refused by the leader, and nothing is changed")
    func refusals() throws {
        let cluster = try started()
        func reason(_ keys: [Bytes]) throws -> SplitRefusal? {
            guard case .failed(.rejected(.notSplit(let why)))? = try split(cluster, at: keys) else {
                return nil
            }
            return why
        }
        #expect(try reason(["zz"]) == .emptyHalf)
        #expect(try reason(["B"]) == .emptyHalf)
        #expect(try reason(["h", "i"]) == .emptyHalf)
        #expect(try reason(["p", "h"]) == .keysUnordered)
        // What no log could hold is in none.
        let long = Bytes(Array(repeating: UInt8(ascii: "h"), count: Limits.maxKeyBytes + 1))
        for keys in [["h", long], [long]] {
            guard case .failed(.rejected(.invalid))? = try split(cluster, at: keys) else {
                Issue.record("a key that no log can hold was taken")
                continue
            }
        }
        let leader = try #require(cluster.leads())
        let tag = cluster.submit((leader + 1) % 3, .split(["h"]), key: "h")
        cluster.settle()
        guard case .failed(.rejected(.notLeader))? = cluster.sink.replies[tag] else {
            Issue.record("a follower answered otherwise")
            return
        }
        #expect(cluster.descriptor()?.epoch.version == 1)
        #expect(cluster.members[0].core?.topology?.regions.count == 1)
        // By hand: ids of a region that there is, a stale epoch.
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        let peers = (0..<3).map { PeerID(UInt64(900 + $0)) }
        let existing = SplitCommand(parts: [
            .init(region: TestCluster.id, end: "h", leader: peers[0], peers: peers)
        ])
        #expect(throws: SplitRefusal.malformed) {
            try lane.propose(existing, in: TestCluster.id)
        }
        #expect(throws: SplitRefusal.unknownRegion) {
            try lane.propose(existing, in: RegionID(99))
        }
        let system = try #require(cluster.leads(.system))
        #expect(throws: SplitRefusal.system) {
            try cluster.members[system].core?.lanes[0].propose(existing, in: .system)
        }
    }

    @Test(
        "a new region's id is nobody else's: a leader refuses it, and no node loses a region to it")
    func existingChild() throws {
        let cluster = try started()
        let made = try regions(try split(cluster, at: ["h"]))
        let child = try #require(made.first?.region)
        let leader = try #require(cluster.leads())
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        let peers = (0..<3).map { PeerID(UInt64(900 + $0)) }
        let again = SplitCommand(parts: [
            .init(region: child, end: "p", leader: peers[0], peers: peers)
        ])
        #expect(throws: SplitRefusal.regionExists(child)) {
            try lane.propose(again, in: TestCluster.id)
        }
        cluster.pass(milliseconds: 500)
        #expect(cluster.descriptor()?.range == made.last?.range)
        try expectValues(cluster)
        // In the log all the same: whoever has both regions carries out neither half of it.
        func entries(_ number: Int) throws -> [Entry] {
            let log = try #require(cluster.members[number].core?.log)
            let last = try #require(cluster.region(number, child)?.log.lastIndex)
            return try log.entries(
                region: child, from: SplitRules.firstApplied + 1, to: last + 1, maxBytes: .max)
        }
        let before = try (0..<3).map { try entries($0) }
        #expect(before.allSatisfy { !$0.isEmpty })
        let epoch = try #require(cluster.descriptor()?.epoch)
        lane.forge(again, of: epoch, in: TestCluster.id)
        cluster.settle()
        #expect(cluster.failures.codes == [.corrupted, .corrupted, .corrupted])
        #expect("\(cluster.failures.all[0])".contains("into region \(child)"))
        for number in 0..<3 {
            #expect(try entries(number) == before[number])
            let digest = try cluster.members[number].core?.applier.digest(region: child)
            #expect(digest?.applied ?? .zero > SplitRules.firstApplied)
        }
    }

    @Test("a new peer takes nothing from before a division that it was not there for")
    func fromBeforeDivision() throws {
        let cluster = try started(4)
        func set(_ count: Int) throws -> Bool {
            for _ in 0..<40 {
                let leader = try #require(cluster.leads())
                let nodes = (0..<count).map { cluster.node($0) }
                let tag = cluster.submit(
                    leader, .members(TestCluster.id, .set(nodes)), key: Bytes())
                cluster.pass(milliseconds: 500)
                if case .members(let report)? = cluster.sink.replies[tag],
                    report.progress == .done
                {
                    return true
                }
            }
            return false
        }
        #expect(try set(3), "\(cluster.dump())")
        #expect(try regions(try split(cluster, at: ["h"])).count == 2)
        // It is introduced, and hears nothing more.
        let node = cluster.node(3)
        cluster.network.drops = { packet in
            packet.to == node
                && packet.messages.contains {
                    [.appendEntries, .installSnapshot].contains($0.message.kind)
                        && $0.region == TestCluster.id
                }
        }
        let isSet = try set(4)
        let late = try #require(cluster.region(3))
        #expect(!isSet && late.raft.lastIndex == .zero && late.birth.logBegins == LogIndex(1))
        // As from a leader that has the division in its log and has not applied it.
        let leader = try #require(cluster.leads())
        let region = try #require(cluster.region(leader))
        let log = try #require(cluster.members[leader].core?.log)
        let entries = try log.entries(
            region: TestCluster.id, from: LogIndex(1), to: region.log.lastIndex + 1,
            maxBytes: .max)
        cluster.members[3].core?.received(
            [
                RegionMessage(
                    region: TestCluster.id, epoch: region.descriptor.epoch,
                    message: Message(
                        kind: .appendEntries, to: late.peer, from: region.peer,
                        term: region.raft.term, commit: region.raft.committed, entries: entries))
            ], from: cluster.node(leader))
        cluster.settle()
        #expect(!entries.isEmpty && late.raft.lastIndex == .zero && late.applied == .zero)
        cluster.network.drops = { _ in false }
        #expect(try set(4), "\(cluster.dump())")
        cluster.pass(milliseconds: 2000)
        #expect(late.applied == region.applied)
        try expectValues(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a read that waited while its key was given away is sent on, not served (RULES 28)")
    func givenAway() throws {
        let cluster = try started()
        let made = try regions(try split(cluster, at: ["h"]))
        let leader = try #require(cluster.leads())
        let region = try #require(cluster.region(leader))
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        for (tag, key) in [(9001, "a"), (9002, "t")] as [(UInt64, Bytes)] {
            // As if its round had ended only now.
            lane.serve(
                PendingRead(
                    operation: .get(.linearizable), key: key, sink: cluster.sink, tag: tag,
                    deadline: MonotonicTime(nanoseconds: .max), bytes: 0), region)
        }
        cluster.settle()
        guard case .failed(.rejected(.staleEpoch(let current)))? = cluster.sink.replies[9001],
            case .value(let found?)? = cluster.sink.replies[9002]
        else {
            Issue.record("\(String(describing: cluster.sink.replies[9001]))")
            return
        }
        #expect(Set(current.map(\.region)) == Set(made.map(\.region)))
        #expect(found.value == "t")
    }

    @Test(
        "a command of an older epoch that is committed nevertheless changes nothing; its twin neither"
    )
    func replayedCommand() throws {
        let cluster = try started()
        let leader = try #require(cluster.leads())
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        let region = try #require(cluster.region(leader))
        let peers = (0..<3).map { PeerID(UInt64(900 + $0)) }
        let command = SplitCommand(parts: [
            .init(region: RegionID(500), end: "h", leader: peers[leader], peers: peers)
        ])
        let payload = EntryPayload.encode(
            admin: .split(command), epoch: region.descriptor.epoch, time: 1)
        // The same entry twice, as a client of the log could forge it.
        for _ in 0..<2 { _ = try region.raft.propose(payload) }
        lane.markDirty(region)
        lane.runPass()
        cluster.settle()
        cluster.pass(milliseconds: 500)
        #expect(cluster.descriptor()?.epoch.version == 2)
        #expect(cluster.members[0].core?.topology?.regions.count == 2)
        try expectValues(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "crashes bring both halves back, whatever of the state is lost",
        arguments: 1...12 as ClosedRange<UInt64>)
    func crashes(seed: UInt64) throws {
        // Half of the stores lose all that was not asked to be flushed.
        let cluster = try started(storeSeed: seed, flushesUnasked: seed % 2 == 0)
        let made = try regions(try split(cluster, at: ["h"]))
        _ = try regions(try split(cluster, at: ["c"]))
        for number in cluster.members.indices { cluster.crash(number, seed: seed) }
        try cluster.startAll()
        cluster.pass(milliseconds: 4000)
        try expectValues(cluster)
        for info in made { try expectEqual(cluster, info.region, on: 3) }
        #expect(cluster.members[0].core?.topology?.regions.count == 3)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a node that was away is divided by the log, and is sent no snapshot")
    func straggler() throws {
        let cluster = try started { $0.compactionInterval = .max }
        let leader = try #require(cluster.leads())
        let away = cluster.node((leader + 1) % 3)
        cluster.network.drops = { $0.from == away || $0.to == away }
        let made = try regions(try split(cluster, at: ["h"]))
        guard case .command(.applied)? = try cluster.write(.put(key: "b", value: "new")) else {
            Issue.record("the new region does not write")
            return
        }
        cluster.pass(milliseconds: 1000)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 3000)
        for info in made {
            try expectEqual(cluster, info.region, on: 3)
            let first = cluster.region((leader + 1) % 3, info.region)?.log.firstIndex
            #expect(first == (info.region == TestCluster.id ? LogIndex(1) : LogIndex(6)))
        }
        try expectValues(cluster)
    }

    @Test("who comes later begins with a snapshot, though the log goes back to before the split")
    func newcomer() throws {
        let cluster = try started(4) { $0.compactionInterval = .max }
        // Of four nodes one is to hold nothing of the region.
        let leader = try #require(cluster.leads())
        let number = (leader + 1) % 4
        try cluster.remove(number)
        let made = try regions(try split(cluster, at: ["h"]))
        cluster.members[number].store?.completeFlush()
        cluster.pass(milliseconds: 2000)
        try cluster.add(number, as: PeerID(700))
        let peer = try #require(cluster.region(number))
        #expect(peer.descriptor.range == KeyRange(lower: "h", upper: ""))
        #expect(peer.log.firstIndex > LogIndex(1))
        // The other half has no peer there, and none of its keys are.
        let other = try #require(made.first).region
        #expect(cluster.region(number, other) == nil)
        let key: Bytes = "a"
        let store = try #require(cluster.members[number].store)
        #expect(key.withUnsafeBytes { store.get(.user, $0, tier: .any) } == nil)
        try expectValues(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "a divided region's peer that is removed stays until the other half needs its log no more")
    func removedParent() throws {
        let cluster = try started(flushesUnasked: false)
        let made = try regions(try split(cluster, at: ["h"]))
        let child = try #require(made.first).region
        let leader = try #require(cluster.leads())
        let number = (leader + 1) % 3
        let gone = try cluster.peer(on: number)
        try cluster.change([.demote(gone)])
        cluster.pass(milliseconds: 200)
        try cluster.change([.removeLearner(gone)])
        cluster.pass(milliseconds: 100)
        #expect(cluster.region(number)?.leavesAs != nil)
        cluster.pass(milliseconds: 3000)
        // The removal flushes the state, so that now the peer may go; a crash brings the other half back.
        cluster.members[number].store?.completeFlush()
        cluster.pass(milliseconds: 3000)
        #expect(cluster.region(number) == nil)
        cluster.crash(number, seed: 3)
        try cluster.start(number)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.region(number, child) != nil)
        try expectEqual(cluster, child, on: 3)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a peer goes though what came out of it went before its keys were flushed")
    func buriedChild() throws {
        let cluster = try started(flushesUnasked: false)
        let child = try #require(try regions(try split(cluster, at: ["h"])).first).region
        let number = try #require(
            (0..<3).first { $0 != cluster.leads() && $0 != cluster.leads(child) })
        for id in [child, TestCluster.id] {
            #expect(id == child || cluster.region(number)?.unflushedChildren.isEmpty == true)
            let gone = try cluster.peer(on: number, id)
            try cluster.change([.demote(gone)], id)
            cluster.pass(milliseconds: 200)
            #expect(id != child || cluster.region(number)?.unflushedChildren == [child])
            try cluster.change([.removeLearner(gone)], id)
            cluster.pass(milliseconds: 3000)
            #expect(cluster.region(number, id) == nil)
        }
        #expect(cluster.failures.isEmpty)
    }

    @Test("a part of what a removed peer held comes only when all of that is cleared away")
    func cleared() throws {
        let cluster = TestCluster(nodes: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let core = try #require(cluster.members[0].core)
        let region = try #require(cluster.region(0)?.descriptor)
        // Divided and this peer removed, without its knowing: the left half is another region's by now.
        let middle = Bytes(
            copying: region.range.upper.withUnsafeBytes {
                UnsafeRawBufferPointer(rebasing: $0.dropLast())
            })
        let left = KeyRange(lower: region.range.lower, upper: middle)
        var last = region
        last.range = KeyRange(lower: middle, upper: region.range.upper)
        var part = region
        part.region = RegionID(99)
        part.range = left
        let birth = RegionBirth(origin: part, introduction: part)
        #expect(!core.admits(birth))
        core.left(last, held: region.range)
        #expect(!core.admits(birth))
        core.cleared(region.region)
        #expect(core.admits(birth))
    }
}
