// Regions whose members change while they work, on nodes that crash.

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode

/// What tests of membership ask of a cluster.
extension TestCluster {
    static let id = RegionID(2)

    func region(_ number: Int, _ id: RegionID = TestCluster.id) -> Region? {
        members[number].core?.lanes[0].regions[id]
    }

    /// The member that leads a region.
    func leads(_ id: RegionID = TestCluster.id) -> Int? {
        members.indices.first { region($0, id)?.isLeader ?? false }
    }

    /// The descriptor as its leader has it.
    func descriptor(_ id: RegionID = TestCluster.id) -> RegionDescriptor? {
        leads(id).flatMap { region($0, id)?.descriptor }
    }

    func node(_ number: Int) -> NodeID { NodeID(UInt64(number + 1)) }

    /// Proposes a change through the leader and lets everything settle.
    func change(_ steps: [MemberStep], _ id: RegionID = TestCluster.id) throws {
        guard let leader = leads(id), let core = members[leader].core else {
            throw ChangeRefusal.notLeader
        }
        try core.lanes[0].propose(MemberChange(steps), in: id)
        settle()
    }

    /// The peer of a region on a member's node, as its leader has it.
    func peer(on number: Int, _ id: RegionID = TestCluster.id) throws -> PeerID {
        try #require(descriptor(id)?.peer(on: node(number))?.peer)
    }

    /// Moves leadership to a member.
    func transfer(to number: Int, _ id: RegionID = TestCluster.id) throws {
        let leader = try #require(leads(id))
        let target = try peer(on: number, id)
        guard leader != number, let region = region(leader, id), let core = members[leader].core
        else { return }
        region.raft.transferLeadership(to: target)
        core.lanes[0].markDirty(region)
        core.lanes[0].runPass()
        settle()
        pass(milliseconds: 200)
        #expect(leads(id) == number)
    }

    /// Takes a member's peer out of the region, by way of a learner.
    func remove(_ number: Int) throws {
        if leads() == number { try transfer(to: (number + 1) % members.count) }
        let gone = try peer(on: number)
        try change([.demote(gone)])
        pass(milliseconds: 200)
        try change([.removeLearner(gone)])
        pass(milliseconds: 200)
    }

    /// Gives a member a peer of the region that votes, once it has caught up.
    func add(_ number: Int, as peer: PeerID) throws {
        try change([.addLearner(peer, on: node(number))])
        pass(milliseconds: 2000)
        try change([.promote(peer)])
        pass(milliseconds: 200)
    }
}

@Suite("membership of regions")
struct MembershipTests {
    private func started(
        _ nodes: Int, storeSeed: UInt64? = 1,
        options: @escaping (inout NodeOptions) -> Void = { _ in }
    ) throws -> TestCluster {
        let cluster = TestCluster(
            nodes: nodes, regions: 1, storeSeed: storeSeed, options: options)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        return cluster
    }

    private func expectWrites(
        _ cluster: TestCluster, _ key: Bytes = "k", at location: SourceLocation = #_sourceLocation
    ) throws {
        guard case .command(.applied)? = try cluster.write(.put(key: key, value: "v")) else {
            Issue.record("the region does not write", sourceLocation: location)
            return
        }
    }

    /// The members' digests of the region, of those that have a peer of it.
    private func digests(_ cluster: TestCluster) throws -> Set<RegionDigest> {
        Set(
            try cluster.members.indices.filter { cluster.region($0) != nil }.compactMap {
                try cluster.members[$0].core?.applier.digest(region: TestCluster.id)
            })
    }

    @Test("a peer is removed, its node forgets the region, and another one takes its place")
    func replaced() throws {
        let cluster = try started(3)
        try expectWrites(cluster, "a")
        let leader = try #require(cluster.leads())
        let gone = (leader + 1) % 3
        let old = try cluster.peer(on: gone)
        try cluster.remove(gone)
        #expect(cluster.region(gone) == nil)
        #expect(try #require(cluster.descriptor()).peers.count == 2)
        #expect(cluster.descriptor()?.epoch.confVersion == 3)
        try expectWrites(cluster, "b")
        let core = try #require(cluster.members[gone].core)
        #expect(core.topology?.regions.first { $0.region == TestCluster.id }?.nodes.count == 2)
        #expect(core.lanes[0].tombstones[TestCluster.id]?.peer == old)
        #expect(cluster.members[gone].store?.regionState(TestCluster.id) == nil)

        // The same node again, as another peer. Its old remains have to be flushed away first.
        cluster.members[gone].store?.completeFlush()
        cluster.pass(milliseconds: 2000)
        try cluster.add(gone, as: PeerID(100))
        let region = try #require(cluster.region(gone))
        #expect(region.peer == PeerID(100))
        #expect(region.descriptor == cluster.descriptor())
        #expect(region.descriptor.epoch.confVersion == 5)
        try expectWrites(cluster, "c")
        cluster.pass(milliseconds: 500)
        #expect(try digests(cluster).count == 1)
        #expect(cluster.failures.isEmpty)
        // And it counts: with it, one of the others may go.
        let other = try #require([0, 1, 2].first { $0 != gone && $0 != cluster.leads() })
        cluster.crash(other, seed: 1)
        cluster.pass(milliseconds: 3000)
        try expectWrites(cluster, "d")
    }

    @Test("from one node to three to five and back to one")
    func growing() throws {
        let cluster = try started(5)
        for number in 0..<5 where number != 0 {
            if cluster.leads() == number { try cluster.transfer(to: 0) }
        }
        for number in 1..<5 { try cluster.remove(number) }
        #expect(cluster.descriptor()?.peers.count == 1)
        try expectWrites(cluster, "one")
        for number in 1..<5 { cluster.members[number].store?.completeFlush() }
        cluster.pass(milliseconds: 2000)
        for number in 1..<3 { try cluster.add(number, as: PeerID(100 + UInt64(number))) }
        try expectWrites(cluster, "three")
        for number in 3..<5 { try cluster.add(number, as: PeerID(100 + UInt64(number))) }
        try expectWrites(cluster, "five")
        cluster.pass(milliseconds: 500)
        #expect(cluster.descriptor()?.peers.allSatisfy { $0.roles == .voter } ?? false)
        #expect(try digests(cluster).count == 1)
        for number in [4, 0, 2] { try cluster.remove(number) }
        #expect(cluster.descriptor()?.peers.count == 2)
        try expectWrites(cluster, "two")
        #expect(cluster.failures.isEmpty)
    }

    @Test("promotion and demotion in one joint change, which is left by itself")
    func joint() throws {
        let cluster = try started(4)
        let leader = try #require(cluster.leads())
        let (old, new) = ((leader + 1) % 4, (leader + 2) % 4)
        try cluster.remove(new)
        cluster.members[new].store?.completeFlush()
        cluster.pass(milliseconds: 2000)
        try cluster.change([.addLearner(PeerID(100), on: cluster.node(new))])
        cluster.pass(milliseconds: 2000)
        let before = try #require(cluster.descriptor()).epoch.confVersion
        let leaving = try cluster.peer(on: old)
        try cluster.change([.promote(PeerID(100)), .demote(leaving)])
        cluster.pass(milliseconds: 500)
        let after = try #require(cluster.descriptor())
        #expect(after.epoch.confVersion == before + 2 && !after.isJoint)
        #expect(after.member(PeerID(100))?.roles == .voter)
        #expect(after.member(leaving)?.roles == .learner)
        try expectWrites(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("the configuration survives power cuts on all nodes, with the applied index")
    func powerCuts() throws {
        for seed in 0..<12 as Range<UInt64> {
            let cluster = try started(4, storeSeed: seed)
            let leader = try #require(cluster.leads())
            let gone = (leader + 1) % 4
            try cluster.remove(gone)
            try expectWrites(cluster, "a")
            let wanted = try #require(cluster.descriptor())
            for number in 0..<4 { cluster.crash(number, seed: seed + UInt64(number)) }
            try cluster.startAll()
            cluster.pass(milliseconds: 4000)
            #expect(cluster.descriptor() == wanted, "seed \(seed)")
            #expect(cluster.region(gone) == nil, "seed \(seed)")
            try expectWrites(cluster, "b")
            cluster.pass(milliseconds: 500)
            #expect(try digests(cluster).count == 1)
            #expect(cluster.failures.isEmpty)
        }
    }

    @Test("a peer that was down while it was removed is told when it comes back")
    func toldLater() throws {
        let cluster = try started(4)
        let leader = try #require(cluster.leads())
        let gone = (leader + 1) % 4
        cluster.crash(gone, seed: 3)
        try cluster.remove(gone)
        try cluster.start(gone)
        cluster.pass(milliseconds: 4000)
        #expect(cluster.region(gone) == nil)
        #expect(cluster.members[gone].core?.lanes[0].tombstones[TestCluster.id] != nil)
        try expectWrites(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a removed learner that hears nothing asks, and does not go on silence alone")
    func asks() throws {
        let cluster = try started(4)
        let leader = try #require(cluster.leads())
        let gone = (leader + 1) % 4
        let peer = try cluster.peer(on: gone)
        try cluster.change([.demote(peer)])
        cluster.pass(milliseconds: 500)
        let node = cluster.node(gone)
        cluster.network.drops = { $0.to == node }
        try cluster.change([.removeLearner(peer)])
        cluster.pass(milliseconds: 30_000)
        #expect(cluster.region(gone) != nil)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 12_000)
        #expect(cluster.region(gone) == nil)
    }

    @Test("messages of a peer that is gone count for nothing, and it does not come back")
    func stale() throws {
        let cluster = try started(4)
        let leader = try #require(cluster.leads())
        let gone = (leader + 1) % 4
        let peer = try cluster.peer(on: gone)
        let before = try #require(cluster.descriptor())
        let origin = try #require(cluster.region(leader)).birth.origin
        try cluster.remove(gone)
        cluster.members[gone].store?.completeFlush()
        cluster.pass(milliseconds: 2000)
        let region = try #require(cluster.region(leader))
        let term = region.raft.term
        // It asks for a vote in a later term, as of before.
        cluster.members[leader].core?.received(
            [
                RegionMessage(
                    region: TestCluster.id, epoch: before.epoch,
                    message: Message(
                        kind: .requestVote, to: region.peer, from: peer,
                        term: Term(term.rawValue + 10), logTerm: term,
                        index: region.raft.lastIndex + 10))
            ], from: cluster.node(gone))
        cluster.settle()
        #expect(region.raft.term == term && region.isLeader)
        // And a leader of before introduces it.
        let introduction = RegionBirth(origin: origin, introduction: before)
        cluster.members[gone].core?.received(
            [
                RegionMessage(
                    region: TestCluster.id, epoch: before.epoch,
                    message: Message(
                        kind: .introducePeer, to: peer, from: region.peer, term: term,
                        context: introduction.encoded()))
            ], from: cluster.node(leader))
        cluster.pass(milliseconds: 500)
        #expect(cluster.region(gone) == nil)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a leader that takes its own removal goes, and the others elect one")
    func leaderRemoved() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leads())
        let region = try #require(cluster.region(leader))
        // Past the rules, which would have leadership transferred first.
        let change = MemberChange([.removeLearner(region.peer)]).entry(of: region.descriptor)
        try region.raft.proposeConfChange(change)
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        lane.markDirty(region)
        lane.runPass()
        cluster.settle()
        cluster.pass(milliseconds: 4000)
        #expect(cluster.region(leader) == nil)
        #expect(cluster.descriptor()?.peers.count == 2)
        try expectWrites(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a change that is void is skipped by all, and those behind it are not")
    func voidChange() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leads())
        let region = try #require(cluster.region(leader))
        var stale = region.descriptor
        stale.epoch.confVersion += 7
        let peer = PeerID(100)
        for change in [
            MemberChange([.addLearner(peer, on: NodeID(9))]).entry(of: stale),
            ConfigurationChange([.init(.addLearner, peer)], context: "no context"),
            ConfigurationChange(
                [.init(.addLearner, peer)],
                context: MemberContext(confVersion: 1, places: []).encoded()),
            ConfigurationChange(
                [.init(.addLearner, PeerID(1))],
                context: MemberContext(
                    confVersion: 1, places: [.init(peer: PeerID(1), node: NodeID(9))]
                ).encoded()),
            ConfigurationChange(
                [.init(.addLearner, peer)],
                context: MemberContext(
                    confVersion: 1, places: [.init(peer: peer, node: cluster.node(leader))]
                ).encoded()),
        ] {
            try region.raft.proposeConfChange(change)
            let lane = try #require(cluster.members[leader].core?.lanes[0])
            lane.markDirty(region)
            lane.runPass()
            cluster.settle()
            cluster.pass(milliseconds: 200)
        }
        #expect(cluster.descriptor()?.epoch.confVersion == 1)
        try cluster.remove((leader + 1) % 3)
        #expect(cluster.descriptor()?.epoch.confVersion == 3)
        try expectWrites(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("members of the system region change, too")
    func system() throws {
        let cluster = try started(4)
        let leader = try #require(cluster.leads(.system))
        let gone = (leader + 1) % 4
        let peer = try cluster.peer(on: gone, .system)
        try cluster.change([.demote(peer)], .system)
        cluster.pass(milliseconds: 200)
        try cluster.change([.removeLearner(peer)], .system)
        cluster.pass(milliseconds: 500)
        #expect(cluster.region(gone, .system) == nil)
        cluster.members[gone].store?.completeFlush()
        cluster.pass(milliseconds: 2000)
        try cluster.change([.addLearner(PeerID(100), on: cluster.node(gone))], .system)
        cluster.pass(milliseconds: 2000)
        #expect(cluster.region(gone, .system)?.descriptor == cluster.descriptor(.system))
        try expectWrites(cluster)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a node that stops gives its leaderships away, unless nobody could take them")
    func draining() throws {
        let cluster = try started(3)
        let leader = try #require(cluster.leads())
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        nonisolated(unsafe) var isDone = false
        lane.post(.drain { isDone = true })
        cluster.settle()
        cluster.pass(milliseconds: 500)
        #expect(isDone)
        #expect(cluster.region(leader)?.isLeader == false)
        #expect(cluster.region(leader, .system)?.isLeader == false)
        try expectWrites(cluster)
        // The other two are gone: the last one waits no longer than it must, and stays what it is.
        let last = try #require(cluster.leads())
        for number in 0..<3 where number != last { cluster.crash(number, seed: 1) }
        isDone = false
        let lonely = try #require(cluster.members[last].core?.lanes[0])
        lonely.post(.drain { isDone = true })
        cluster.settle()
        cluster.pass(milliseconds: 1100)
        #expect(isDone)
    }

    @Test("an introduction that is false, or of a range that is taken, makes no peer")
    func falseIntroductions() throws {
        let cluster = try started(2)
        let leader = try #require(cluster.leads())
        let region = try #require(cluster.region(leader))
        let receiver = 1 - leader
        var origin = region.birth.origin
        origin.region = RegionID(50)
        origin.epoch.confVersion = 1
        var introduction = origin
        introduction.epoch.confVersion = 2
        introduction.peers = [
            PeerDescriptor(peer: PeerID(60), node: cluster.node(leader)),
            PeerDescriptor(peer: PeerID(61), node: cluster.node(receiver), roles: .learner),
        ]
        func introduce(
            _ change: (inout RegionBirth) -> Void = { _ in }, to peer: UInt64 = 61,
            from: UInt64 = 60, term: UInt64 = 3
        ) {
            var birth = RegionBirth(origin: origin, introduction: introduction)
            change(&birth)
            cluster.members[receiver].core?.received(
                [
                    RegionMessage(
                        region: RegionID(50), epoch: introduction.epoch,
                        message: Message(
                            kind: .introducePeer, to: PeerID(peer), from: PeerID(from),
                            term: Term(term), context: birth.encoded()))
                ], from: cluster.node(leader))
            cluster.pass(milliseconds: 100)
        }
        // Its keys are region 2's here.
        introduce()
        #expect(cluster.region(receiver, RegionID(50)) == nil)
        // Of a range that nobody has there is none, so let it be the system's twin: not in this cluster.
        for bytes in [Bytes(), "nonsense", origin.encoded()] {
            cluster.members[receiver].core?.received(
                [
                    RegionMessage(
                        region: RegionID(50), epoch: introduction.epoch,
                        message: Message(
                            kind: .introducePeer, to: PeerID(61), from: PeerID(60), term: Term(3),
                            context: bytes))
                ], from: cluster.node(leader))
        }
        introduce({ $0.introduction?.epoch.confVersion = 3 })
        introduce(to: 60)
        introduce(from: 61)
        introduce(term: 0)
        #expect(cluster.region(receiver, RegionID(50)) == nil)
        #expect(cluster.members[receiver].core?.lanes[0].arriving.isEmpty ?? false)
        // And one that says the region's own peer here is another one, of an older configuration.
        let own = try #require(cluster.region(receiver))
        cluster.members[receiver].core?.received(
            [
                RegionMessage(
                    region: TestCluster.id, epoch: region.descriptor.epoch,
                    message: Message(
                        kind: .peerIsGone, to: own.peer, from: region.peer,
                        context: region.descriptor.encoded()))
            ], from: cluster.node(leader))
        cluster.pass(milliseconds: 100)
        #expect(cluster.region(receiver) === own)
        #expect(cluster.failures.isEmpty)
    }
}
