import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState
import UkehiWAL

@testable import UkehiNode

/// RULES 74: survivors go on without the dead, on an operator's word alone, and say what may be lost.
@Suite("Recovery from a lost quorum")
struct RecoveryTests {
    private func survey(_ number: Int, _ cluster: TestCluster) -> RecoverySurvey? {
        ask(number, Bytes(), cluster)
    }

    private func ask(_ number: Int, _ body: Bytes, _ cluster: TestCluster) -> RecoverySurvey? {
        let tag = cluster.submit(number, .recovery(body), key: Bytes())
        cluster.settle()
        guard case .recovery(let bytes)? = cluster.sink.replies[tag] else { return nil }
        return try? RecoverySurvey.decode(bytes)
    }

    private func plan(
        _ dead: [UInt64], of survivors: [Int], _ cluster: TestCluster
    ) throws -> RecoveryPlan {
        let surveys = try survivors.map { try #require(survey($0, cluster)) }
        return RecoveryPlan.make(dead: Set(dead.map { NodeID($0) }), surveys: surveys)
    }

    private func carryOut(_ plan: RecoveryPlan, _ survivors: [Int], _ cluster: TestCluster) -> Bool
    {
        let prepared = survivors.allSatisfy {
            ask($0, plan.preparation.encoded(), cluster) != nil
        }
        return prepared
            && survivors.allSatisfy { number in
                guard let node = cluster.members[number].core?.nodeID else { return false }
                return ask(number, plan.order(for: node).encoded(), cluster) != nil
            }
    }

    private func members(_ cluster: TestCluster, _ number: Int, _ region: RegionID) -> [NodeID] {
        var found: [NodeID] = []
        cluster.members[number].executor.ticking?.forEachPeer { peer, _ in
            if peer.region == region { found = peer.descriptor.peers.map(\.node) }
        }
        return found
    }

    private func value(_ key: Bytes, _ cluster: TestCluster, at number: Int) -> Bytes? {
        guard case .value(let value)? = cluster.read(key, at: number) else { return nil }
        return value?.value
    }

    /// Whether the key can be read, and there is nothing.
    private func isEmpty(_ key: Bytes, _ cluster: TestCluster, at number: Int) -> Bool {
        if case .value(nil)? = cluster.read(key, at: number) { true } else { false }
    }

    @Test(
        "one of three goes on alone, keeps what it has, and takes new nodes; the dead are refused")
    func oneOfThree() throws {
        let cluster = TestCluster(nodes: 3, regions: 2)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "v")) else {
            Issue.record("the cluster does not write")
            return
        }
        cluster.pass(milliseconds: 1000)
        cluster.crash(1, seed: 1)
        cluster.crash(2, seed: 2)
        // A moment ago they spoke, and led some regions.
        let early = try self.plan([2, 3], of: [0], cluster)
        #expect(!early.refusals.isEmpty)
        cluster.pass(milliseconds: 8000)
        // Who is not dead has to answer.
        let partial = try self.plan([2], of: [0], cluster)
        #expect(!partial.refusals.isEmpty)
        let plan = try self.plan([2, 3], of: [0], cluster)
        #expect(plan.refusals.isEmpty, "\(plan.refusals)")
        #expect(plan.forced.count == 3)
        #expect(plan.forced.allSatisfy { $0.mayLose })
        let again = try self.plan([2, 3], of: [0], cluster)
        #expect(plan.fingerprint == again.fingerprint)
        #expect(carryOut(plan, [0], cluster))
        cluster.pass(milliseconds: 8000)
        #expect(value("k", cluster, at: 0) == "v", "\(cluster.dump())")
        for region in [RegionID.system, RegionID(2), RegionID(3)] {
            #expect(members(cluster, 0, region) == [NodeID(1)])
        }
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "w")) else {
            Issue.record("the survivor does not write")
            return
        }
        // It is over, and survives.
        #expect(cluster.members[0].core?.state.withLock { $0.identity.forced }.isEmpty == true)
        cluster.crash(0, seed: 3)
        try cluster.start(0)
        cluster.pass(milliseconds: 3000)
        #expect(value("k", cluster, at: 0) == "w")
        #expect(cluster.failures.isEmpty)
        // One of the dead is found again.
        try cluster.start(2)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.failures.codes == [.identity])
        // Empty it joins as a new one, under an id that nobody had.
        cluster.crash(2, seed: 4)
        cluster.members[2].fileSystem = SimulatedFileSystem()
        try cluster.start(2)
        cluster.pass(milliseconds: 8000)
        let node = try #require(cluster.members[2].core?.nodeID)
        #expect(node.rawValue > 1 << 24)
        #expect(cluster.failures.codes == [.identity])
    }

    /// Three nodes of which the last two alone have the region that holds this key, and are dead; `returning`:
    /// they were just giving the first one a peer of it again.
    private func losing(
        _ key: Bytes, returning: Bool = false
    ) throws -> (TestCluster, RegionID) {
        let cluster = TestCluster(nodes: 3, regions: 3)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let region = try #require(cluster.members[0].core?.region(of: key))
        _ = try cluster.write(.put(key: key, value: "v"))
        for _ in 0..<20 where members(cluster, 0, region) != [] {
            let leader = try #require(cluster.leader(of: key))
            cluster.submit(
                leader, .members(region, .set([NodeID(2), NodeID(3)])), key: "")
            cluster.pass(milliseconds: 1000)
        }
        #expect(members(cluster, 1, region) == [NodeID(2), NodeID(3)])
        for member in cluster.members { member.store?.completeFlush() }
        cluster.pass(milliseconds: 3000)
        if returning {
            cluster.network.drops = { packet in
                packet.to == NodeID(1)
                    && packet.messages.contains {
                        $0.region == region && $0.message.kind != .introducePeer
                    }
            }
            for _ in 0..<20 where members(cluster, 0, region) == [] {
                let leader = try #require(cluster.leader(of: key))
                let all = [NodeID(1), NodeID(2), NodeID(3)]
                cluster.submit(leader, .members(region, .set(all)), key: "")
                cluster.pass(milliseconds: 1000)
            }
            #expect(members(cluster, 0, region) != [], "\(cluster.dump())")
        }
        cluster.crash(1, seed: 1)
        cluster.crash(2, seed: 2)
        cluster.pass(milliseconds: 8000)
        return (cluster, region)
    }

    @Test("what nobody has is created empty if that is ordered, once, and survives")
    func createdEmpty() throws {
        let key: Bytes = "1"
        let (cluster, region) = try losing(key)
        let plan = try self.plan([2, 3], of: [0], cluster)
        #expect(plan.refusals.isEmpty, "\(plan.refusals)")
        #expect(plan.lost.map(\.region) == [region])
        let missing = try #require(plan.missing.first)
        #expect(plan.missing.count == 1 && missing.range.contains(key))
        #expect(missing.version > 1)
        // Not before the rest has a leader.
        #expect(ask(0, plan.creation.encoded(), cluster) == nil)
        #expect(carryOut(plan, [0], cluster))
        cluster.pass(milliseconds: 8000)
        guard case .failed? = cluster.read(key, at: 0) else {
            Issue.record("a region that was lost answers")
            return
        }
        let again = try self.plan([2, 3], of: [0], cluster)
        #expect(again.missing == plan.missing && again.forced.isEmpty && again.refusals.isEmpty)
        #expect(ask(0, again.creation.encoded(), cluster) != nil)
        cluster.pass(milliseconds: 2000)
        let created = try #require(cluster.members[0].core?.region(of: key))
        #expect(created > region)
        #expect(isEmpty(key, cluster, at: 0))
        guard case .command(.applied)? = try cluster.write(.put(key: key, value: "new")) else {
            Issue.record("the new region does not write")
            return
        }
        // A plan is good once.
        #expect(ask(0, again.creation.encoded(), cluster) == nil)
        #expect(try self.plan([2, 3], of: [0], cluster).missing.isEmpty)
        cluster.crash(0, seed: 3)
        try cluster.start(0)
        cluster.pass(milliseconds: 3000)
        #expect(value(key, cluster, at: 0) == "new")
        #expect(cluster.failures.isEmpty)
    }

    @Test("a survivor that was just being given a peer of what was lost gives it up first")
    func emptyPeerInTheWay() throws {
        let key: Bytes = "1"
        let (cluster, region) = try losing(key, returning: true)
        let plan = try self.plan([2, 3], of: [0], cluster)
        #expect(plan.refusals.isEmpty, "\(plan.refusals)")
        #expect(plan.lost.map(\.region) == [region])
        let abandoned = try #require(plan.abandons[NodeID(1)]?.first, "\(cluster.dump())")
        #expect(abandoned.region == region && plan.missing.count == 1)
        // Everybody has to refuse the dead before anything goes.
        #expect(ask(0, plan.clearance(for: NodeID(1)).encoded(), cluster) == nil)
        #expect(carryOut(plan, [0], cluster))
        cluster.pass(milliseconds: 8000)
        let again = try self.plan([2, 3], of: [0], cluster)
        #expect(again.abandons == plan.abandons && again.missing == plan.missing)
        #expect(ask(0, again.creation.encoded(), cluster) == nil)
        // Peers that have something do not go by such an order.
        var wrong = again.clearance(for: NodeID(1))
        let (other, peer) = try #require(
            cluster.members[0].core?.region(of: "z").flatMap { other in
                survey(0, cluster)?.standings.first { $0.region == other }
                    .map { (other, $0.peer) }
            })
        wrong.abandons = [.init(region: other, peer: peer)]
        #expect(ask(0, wrong.encoded(), cluster) == nil)
        #expect(ask(0, again.clearance(for: NodeID(1)).encoded(), cluster) != nil)
        #expect(ask(0, again.clearance(for: NodeID(1)).encoded(), cluster) != nil)
        cluster.pass(milliseconds: 3000)
        for member in cluster.members { member.store?.completeFlush() }
        cluster.pass(milliseconds: 3000)
        let last = try self.plan([2, 3], of: [0], cluster)
        #expect(last.abandons.isEmpty && last.missing == plan.missing, "\(last)")
        #expect(ask(0, last.creation.encoded(), cluster) != nil)
        cluster.pass(milliseconds: 2000)
        #expect(isEmpty(key, cluster, at: 0), "\(cluster.dump())")
        guard case .command(.applied)? = try cluster.write(.put(key: key, value: "new")) else {
            Issue.record("the new region does not write")
            return
        }
        cluster.crash(0, seed: 3)
        try cluster.start(0)
        cluster.pass(milliseconds: 3000)
        #expect(value(key, cluster, at: 0) == "new")
        #expect(cluster.failures.isEmpty)
    }

    @Test("a crash right after the order leaves the range missing, or made", arguments: 1...12)
    func createdOrNot(seed: UInt64) throws {
        let key: Bytes = "1"
        let (cluster, _) = try losing(key)
        #expect(carryOut(try self.plan([2, 3], of: [0], cluster), [0], cluster))
        cluster.pass(milliseconds: 8000)
        let plan = try self.plan([2, 3], of: [0], cluster)
        // Its log writes no more from some moment on.
        cluster.submit(0, .recovery(plan.creation.encoded()), key: Bytes())
        let lane = try #require(cluster.members[0].core?.lanes[0])
        for _ in 0..<seed {
            lane.runPass()
            if let log = cluster.members[0].core?.log, let work = log.takeWork() {
                log.perform(work)
            }
        }
        cluster.crash(0, seed: seed)
        cluster.settle()
        // What has ended may still say that its log has.
        let dying = cluster.failures.all.count
        try cluster.start(0)
        cluster.pass(milliseconds: 8000)
        let after = try self.plan([2, 3], of: [0], cluster)
        #expect(after.refusals.isEmpty && after.forced.isEmpty, "\(after.refusals)")
        if !after.missing.isEmpty {
            #expect(after.missing == plan.missing)
            #expect(ask(0, after.creation.encoded(), cluster) != nil)
            cluster.pass(milliseconds: 2000)
        }
        #expect(isEmpty(key, cluster, at: 0), "\(cluster.dump())")
        #expect(cluster.failures.all.count == dying)
    }

    @Test("of two survivors of five the one with the greater log leads, and nothing else changes")
    func twoOfFive() throws {
        let cluster = TestCluster(nodes: 5, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        // Node 5 hears nothing of the last writes.
        cluster.network.drops = { $0.to == NodeID(5) }
        for number in 0..<5 {
            _ = try cluster.write(.put(key: "k", value: Bytes("v\(number)")))
        }
        cluster.network.drops = { _ in false }
        for number in 0..<3 { cluster.crash(number, seed: UInt64(number)) }
        cluster.pass(milliseconds: 8000)
        let plan = try self.plan([1, 2, 3], of: [3, 4], cluster)
        #expect(plan.refusals.isEmpty, "\(plan.refusals)")
        let region = try #require(plan.forced.first { $0.region == RegionID(2) })
        guard case .leads(_, let node) = region.verdict else { return }
        #expect(node == NodeID(4))
        #expect(carryOut(plan, [3, 4], cluster))
        cluster.pass(milliseconds: 8000)
        #expect(value("k", cluster, at: 3) == "v4", "\(cluster.dump())")
        for number in [3, 4] {
            #expect(members(cluster, number, RegionID(2)) == [NodeID(4), NodeID(5)])
        }
        #expect(cluster.failures.isEmpty)
    }

    @Test("a chosen peer that restarts before it has led leads all the same")
    func restart() throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        _ = try cluster.write(.put(key: "k", value: "v"))
        cluster.pass(milliseconds: 1000)
        cluster.crash(1, seed: 1)
        cluster.crash(2, seed: 2)
        cluster.pass(milliseconds: 8000)
        let plan = try self.plan([2, 3], of: [0], cluster)
        #expect(carryOut(plan, [0], cluster))
        cluster.crash(0, seed: 3)
        try cluster.start(0)
        cluster.pass(milliseconds: 8000)
        #expect(value("k", cluster, at: 0) == "v", "\(cluster.dump())")
        #expect(members(cluster, 0, RegionID(2)) == [NodeID(1)])
    }

    @Test("who leads by a log that ends before it came to be a member becomes one as the dead go")
    func leadsFromOutside() throws {
        let region = RegionDescriptor(
            region: RegionID(2), isSystem: false, range: .all,
            epoch: RegionEpoch(confVersion: 6, version: 1),
            peers: [
                PeerDescriptor(peer: PeerID(10), node: NodeID(1), roles: .voter),
                PeerDescriptor(peer: PeerID(11), node: NodeID(2), roles: .voter),
                PeerDescriptor(peer: PeerID(19), node: NodeID(5), roles: .learner),
            ])
        let dead: Set<NodeID> = [NodeID(1), NodeID(2), NodeID(5)]
        let change = try #require(region.removing(dead, led: PeerID(24), on: NodeID(6)))
        var after = try region.applying(change)
        if after.isJoint { after = try after.applying(.leaveJoint) }
        let expected = PeerDescriptor(peer: PeerID(24), node: NodeID(6), roles: .voter)
        #expect(after.peers == [expected])
        #expect(after.removing(dead, led: PeerID(24), on: NodeID(6)) == nil)
    }

    @Test("with a quorum nothing is planned; an order for another log is refused")
    func refused() throws {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        cluster.crash(2, seed: 2)
        cluster.pass(milliseconds: 8000)
        let plan = try self.plan([3], of: [0, 1], cluster)
        #expect(plan.forced.isEmpty && plan.lost.isEmpty)
        cluster.crash(1, seed: 1)
        cluster.pass(milliseconds: 8000)
        var other = try self.plan([2, 3], of: [0], cluster)
        let position = try #require(other.regions.firstIndex { $0.region == RegionID(2) })
        other.regions[position].lastIndex = other.regions[position].lastIndex + 1
        #expect(!carryOut(other, [0], cluster))
        // One with this node among the dead, or of another cluster.
        var order = other.preparation
        order.registry = order.registry.declaringDead([NodeID(1)])
        #expect(ask(0, order.encoded(), cluster) == nil)
        order = other.preparation
        order.cluster = ClusterID(high: 9, low: 9)
        #expect(ask(0, order.encoded(), cluster) == nil)
    }

    @Test("surveys and orders are read back, and garbage is refused")
    func codecs() throws {
        let record = ClusterRecord.make(
            cluster: ClusterID(high: 1, low: 2),
            members: [("a", "a:1", Incarnation(1)), ("b", "b:1", Incarnation(2))],
            ranges: StaticRanges.ranges(count: 2))
        let survey = RecoverySurvey(
            cluster: record.cluster, node: NodeID(1), registry: record.registry,
            heard: [NodeID(2)],
            standings: record.regions.dropLast().map { region in
                PeerStanding(
                    peer: region.peers[0].peer, descriptor: region, isLeader: true,
                    leader: NodeID(1), term: Term(3), lastTerm: Term(2), lastIndex: LogIndex(9),
                    committed: LogIndex(8), applied: LogIndex(7), isDamaged: true,
                    hasChanges: false)
            }, elsewhere: Array(record.regions.suffix(1)))
        let order = RecoveryOrder(
            cluster: record.cluster, registry: record.registry,
            leads: [
                .init(
                    region: RegionID(2), peer: PeerID(7), lastTerm: Term(2), lastIndex: LogIndex(9))
            ],
            abandons: [.init(region: RegionID(3), peer: PeerID(8))],
            creates: [
                .init(range: KeyRange(lower: "", upper: "c"), version: 4),
                .init(range: KeyRange(lower: "x", upper: ""), version: 4),
            ])
        #expect(try RecoverySurvey.decode(survey.encoded()) == survey)
        #expect(try RecoveryOrder.decode(order.encoded()) == order)
        var random = SeededRandom(seed: 11)
        for bytes in [survey.encoded(), order.encoded()] {
            for _ in 0..<3000 {
                var changed = bytes.array
                switch random.next() % 3 {
                case 0: changed.removeLast(Int(random.next() % UInt64(changed.count)) + 1)
                case 1: changed += [UInt8(truncatingIfNeeded: random.next())]
                default:
                    changed[Int(random.next() % UInt64(changed.count))] =
                        UInt8(truncatingIfNeeded: random.next())
                }
                _ = try? RecoverySurvey.decode(Bytes(changed))
                _ = try? RecoveryOrder.decode(Bytes(changed))
            }
        }
    }
}
