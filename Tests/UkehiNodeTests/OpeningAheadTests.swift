// New regions whose keys have not come yet: what they do, and what they must not.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("regions opened ahead of their keys")
struct OpeningAheadTests {
    static let child = RegionID(90)
    static let peers = (0..<3).map { PeerID(UInt64(900 + $0)) }

    /// Three nodes of which all but the leader's leave a division unapplied.
    final class Setting {
        let cluster: TestCluster
        let leader: Int
        let followers: [Int]
        let appliers: [HeldWorker]

        init(storeSeed: UInt64 = 1) throws {
            let appliers = (0..<3).map { _ in HeldWorker() }
            for applier in appliers { applier.isHolding = false }
            let cluster = TestCluster(
                nodes: 3, regions: 1, storeSeed: storeSeed, flushesUnasked: false)
            cluster.worker = { member, name in
                name.hasPrefix("ukehi-apply") ? appliers[member] : nil
            }
            try cluster.startAll()
            cluster.pass(milliseconds: 3000)
            for key in ["a", "z"] as [Bytes] { _ = try cluster.write(.put(key: key, value: key)) }
            leader = try #require(cluster.leads())
            followers = [(leader + 1) % 3, (leader + 2) % 3]
            self.cluster = cluster
            self.appliers = appliers
        }

        /// Divides the region; the new one is led first where it is led.
        func divide(at key: Bytes = "h", heldOn held: [Int]? = nil) throws {
            for number in held ?? followers { appliers[number].isHolding = true }
            let place = try #require(
                cluster.descriptor()?.peers.firstIndex { $0.node == cluster.node(leader) })
            let command = SplitCommand(parts: [
                .init(
                    region: OpeningAheadTests.child, end: key,
                    leader: OpeningAheadTests.peers[place], peers: OpeningAheadTests.peers)
            ])
            try cluster.members[leader].core?.lanes[0].propose(command, in: TestCluster.id)
            cluster.settle()
        }

        func release() {
            for applier in appliers {
                applier.isHolding = false
                applier.release()
            }
            cluster.settle()
        }

        func value(of key: Bytes) throws -> Bytes? {
            let leader = try #require(cluster.leader(of: key))
            guard case .value(let found?)? = cluster.read(key, at: leader) else { return nil }
            return found.value
        }
    }

    @Test("a new region acknowledges writes though only its leader's state has its keys")
    func serves() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        try setting.divide()
        let led = try #require(cluster.region(setting.leader, Self.child))
        #expect(led.isLeader && led.applied == SplitRules.firstApplied + 1)
        let write = try cluster.write(.put(key: "a", value: "new"))
        guard case .command(.applied)? = write else {
            Issue.record("the new region does not write: \(String(describing: write))")
            return
        }
        for number in setting.followers {
            let region = try #require(cluster.region(number, Self.child))
            let lane = try #require(cluster.members[number].core?.lanes[0])
            #expect(region.awaitsKeys && region.raft.committed > SplitRules.firstApplied)
            // Nothing of it is applied, shown, or asked: its parent holds the range.
            #expect(region.applied == SplitRules.firstApplied && !region.heldApplies.isEmpty)
            #expect(!lane.holds(Self.child) && lane.standing(of: Self.child) == nil)
            #expect(cluster.members[number].core?.topology?.regions.count == 1)
            #expect(cluster.region(number)?.descriptor.range == KeyRange.all)
            #expect(lane.offer(region) == nil)
            #expect(throws: SplitRefusal.unknownRegion) {
                try lane.propose(SplitCommand(parts: []), in: Self.child)
            }
            #expect(throws: ChangeRefusal.unknownRegion) {
                try lane.propose(MemberChange([.demote(Self.peers[0])]), in: Self.child)
            }
            #expect(lane.survey().standings.allSatisfy { $0.descriptor.region != Self.child })
            let tag = UInt64(5000 + number)
            cluster.members[number].core?.submit(
                ClientRequest(
                    operation: .get(.stale), key: "a",
                    expected: (region: Self.child, epoch: led.descriptor.epoch),
                    sink: cluster.sink, tag: tag))
            cluster.settle()
            guard case .failed(.rejected(.staleEpoch(let current)))? = cluster.sink.replies[tag]
            else {
                Issue.record("answered \(String(describing: cluster.sink.replies[tag]))")
                continue
            }
            #expect(current.map(\.region) == [TestCluster.id])
        }
        setting.release()
        cluster.pass(milliseconds: 500)
        let digests = try cluster.members.map { try $0.core?.applier.digest(region: Self.child) }
        #expect(Set(digests).count == 1 && digests[0] != nil)
        for number in 0..<3 {
            #expect(cluster.region(number, Self.child)?.awaitsKeys == false)
            #expect(cluster.members[number].core?.topology?.regions.count == 2)
        }
        #expect(try setting.value(of: "a") == "new" && setting.value(of: "z") == "z")
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "what was acknowledged while others awaited their keys outlives a crash of all",
        arguments: 1...8 as ClosedRange<UInt64>)
    func crashes(seed: UInt64) throws {
        let setting = try Setting(storeSeed: seed)
        let cluster = setting.cluster
        try setting.divide()
        guard case .command(.applied)? = try cluster.write(.put(key: "a", value: "new")) else {
            Issue.record("the new region does not write")
            return
        }
        for number in 0..<3 {
            cluster.crash(number, seed: seed)
            setting.appliers[number].forget()
            setting.appliers[number].isHolding = false
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 4000)
        #expect(try setting.value(of: "a") == "new" && setting.value(of: "z") == "z")
        let digests = try cluster.members.map { try $0.core?.applier.digest(region: Self.child) }
        #expect(Set(digests).count == 1 && digests[0] != nil)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a first leader whose state stands still sends no heartbeats: who has the keys leads")
    func leaderWithoutKeys() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        try setting.divide(heldOn: [setting.leader])
        let led = try #require(cluster.region(setting.leader, Self.child))
        #expect(led.awaitsKeys && led.isLeader && led.raft.committed == LogIndex(6))
        cluster.pass(milliseconds: 4000)
        let next = try #require(
            setting.followers.first { cluster.region($0, Self.child)?.isLeader ?? false })
        #expect(cluster.members[next].core?.leads("a") ?? false)
        setting.release()
        cluster.pass(milliseconds: 1000)
        #expect(cluster.region(setting.leader, Self.child)?.isLeader == false)
        #expect(try setting.value(of: "a") == "a")
        #expect(cluster.failures.isEmpty)
    }

    @Test("a peer that is removed while it awaits its keys goes when they have come")
    func removed() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        let number = setting.followers[0]
        try setting.divide(heldOn: [number])
        let gone = try cluster.peer(on: number, Self.child)
        try cluster.change([.demote(gone)], Self.child)
        cluster.pass(milliseconds: 200)
        try cluster.change([.removeLearner(gone)], Self.child)
        cluster.pass(milliseconds: 200)
        let region = try #require(cluster.region(number, Self.child))
        #expect(region.awaitsKeys && region.leavesAs != nil && !region.isClosed)
        setting.release()
        // For good: what opens new regions with their keys comes behind that.
        #expect(cluster.region(number, Self.child) == nil)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.region(number, Self.child) == nil)
        // Its keys went with it, and its parent's are there.
        let store = try #require(cluster.members[number].store)
        for (key, isThere) in [("a", false), ("z", true)] as [(Bytes, Bool)] {
            let found = key.withUnsafeBytes { store.get(.user, $0, tier: .any) }
            #expect((found != nil) == isThere)
        }
        #expect(try setting.value(of: "a") == "a" && setting.value(of: "z") == "z")
        #expect(cluster.failures.isEmpty)
    }

    @Test("so does a first leader; it does not lead again")
    func removedLeader() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        let number = setting.leader
        try setting.divide(heldOn: [number])
        cluster.pass(milliseconds: 4000)
        let next = try #require(
            setting.followers.first { cluster.region($0, Self.child)?.isLeader ?? false })
        let gone = try #require(cluster.region(number, Self.child)).peer
        let lane = try #require(cluster.members[next].core?.lanes[0])
        for change in [MemberChange([.demote(gone)]), MemberChange([.removeLearner(gone)])] {
            try lane.propose(change, in: Self.child)
            cluster.settle()
            cluster.pass(milliseconds: 200)
        }
        #expect(cluster.region(number, Self.child)?.leavesAs != nil)
        setting.release()
        #expect(cluster.region(number, Self.child) == nil)
        cluster.pass(milliseconds: 3000)
        #expect(try setting.value(of: "a") == "a" && setting.value(of: "z") == "z")
        #expect(cluster.failures.isEmpty)
    }

    @Test("without keys a peer votes for who has them when the leader is gone, and leads nothing")
    func votes() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        let (without, with) = (setting.followers[0], setting.followers[1])
        try setting.divide(heldOn: [without])
        let region = try #require(cluster.region(without, Self.child))
        #expect(region.awaitsKeys && region.leader != .none)
        // As a drained node, or a balancer, would ask it to.
        let lane = try #require(cluster.members[setting.leader].core?.lanes[0])
        lane.transferLeadership(of: Self.child, to: region.peer)
        cluster.settle()
        #expect(!region.isLeader)
        cluster.crash(setting.leader, seed: 1)
        cluster.pass(milliseconds: 4000)
        #expect(region.awaitsKeys)
        #expect(cluster.region(with, Self.child)?.isLeader == true)
        #expect(try setting.value(of: "a") == "a")
        setting.release()
        cluster.pass(milliseconds: 1000)
        let holdsCampaigns = cluster.region(without, Self.child)?.raft.holdsCampaigns
        #expect(holdsCampaigns == false)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a snapshot that is offered meanwhile waits, and a load goes to nobody who does not lead")
    func meanwhile() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        let number = setting.followers[0]
        try setting.divide(heldOn: [number])
        let lane = try #require(cluster.members[number].core?.lanes[0])
        let region = try #require(cluster.region(number, Self.child))
        lane.consider(
            Message(
                kind: .installSnapshot, to: region.peer, from: region.raft.leader,
                term: region.raft.term,
                snapshot: Snapshot(
                    index: LogIndex(50), term: region.raft.term,
                    configuration: region.descriptor.configuration)), region)
        #expect(lane.snapshots.waiting.map(\.region) == [Self.child])
        #expect(lane.snapshots.incoming.isEmpty)
        var load = RegionLoad(region: Self.child, threshold: 0)
        load.meter.countWrite(3)
        load.meter.endSecond(milliseconds: 1000)
        lane.handle(.inherit(Self.child, load))
        #expect(region.load.meter.last == LoadRates())
        setting.release()
        cluster.pass(milliseconds: 1000)
        let committed = region.raft.committed
        #expect(!region.awaitsKeys && region.applied == committed)
        #expect(cluster.failures.isEmpty)
    }

    @Test("what a new region has committed is applied before what others have meanwhile")
    func appliedAtOnce() throws {
        let setting = try Setting()
        let cluster = setting.cluster
        let applier = setting.appliers[setting.leader]
        try setting.divide(heldOn: [setting.leader])
        let child = try #require(cluster.region(setting.leader, Self.child))
        let parent = try #require(cluster.region(setting.leader))
        let write = cluster.submit(
            setting.leader, .write(record: try Command.increment(key: "n", by: 1).encoded()),
            key: "n")
        cluster.settle()
        let before = parent.applied
        #expect(applier.held.count == 1 && child.applied == SplitRules.firstApplied)
        // The division is applied; what is behind it goes to the thread, which still does nothing.
        applier.takeFirst()()
        cluster.settle()
        #expect(child.applied == SplitRules.firstApplied + 1 && !child.isFirstLed)
        #expect(parent.applied > before && applier.held.count == 1)
        #expect(cluster.members[setting.leader].core?.splitRecords().last?.servedAt != nil)
        setting.release()
        #expect(cluster.sink.replies[write] != nil)
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "what a new region commits first does not wait for what the apply thread does for others",
        arguments: [nil, .put(key: "b", value: "1"), .increment(key: "b", by: 1)] as [Command?])
    func appliedBesideThread(behind: Command?) throws {
        let setting = try Setting()
        let cluster = setting.cluster
        let applier = setting.appliers[setting.leader]
        // Nothing of it is committed before the division is applied everywhere.
        cluster.network.drops = { packet in
            packet.messages.contains {
                $0.region == Self.child && $0.message.kind == .appendEntriesResponse
            }
        }
        try setting.divide(heldOn: [])
        let child = try #require(cluster.region(setting.leader, Self.child))
        #expect(!child.awaitsKeys && child.isFirstLed && child.applied == SplitRules.firstApplied)
        // What comes behind the leader's own entry is committed with it; it goes with it, too, unless it reads.
        let joined = try behind.map {
            cluster.submit(setting.leader, .write(record: try $0.encoded()), key: $0.key)
        }
        cluster.settle()
        let isTaken = if case .put = behind { true } else { false }
        applier.isHolding = true
        let write = cluster.submit(
            setting.leader, .write(record: try Command.increment(key: "n", by: 1).encoded()),
            key: "n")
        cluster.settle()
        #expect(applier.held.count == 1)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 300)
        #expect(child.applied == SplitRules.firstApplied + (isTaken ? 2 : 1) && !child.isFirstLed)
        #expect(applier.held.count == 1 && cluster.sink.replies[write] == nil)
        if let joined { #expect((cluster.sink.replies[joined] != nil) == isTaken) }
        #expect(cluster.members[setting.leader].core?.splitRecords().last?.servedAt != nil)
        // What follows is in order behind it, as for every other region.
        let next = cluster.submit(
            setting.leader, .write(record: try Command.put(key: "a", value: "new").encoded()),
            key: "a")
        cluster.settle()
        #expect(cluster.sink.replies[next] == nil)
        setting.release()
        #expect(cluster.sink.replies[write] != nil && cluster.sink.replies[next] != nil)
        #expect(try setting.value(of: "a") == "new")
        if let joined {
            #expect(cluster.sink.replies[joined] != nil)
            #expect(try setting.value(of: "b") == "1")
        }
        #expect(cluster.failures.isEmpty)
    }
}
