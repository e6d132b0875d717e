// From any members to any others, by safe steps.

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("aims for members")
struct MemberEngineTests {
    /// Peer and node have the same number; the first voter leads; all have caught up.
    static func view(voters: [UInt64], learners: [UInt64] = []) -> MemberView {
        let all = (voters + learners).sorted()
        return MemberView(
            descriptor: RegionDescriptor(
                region: RegionID(2), isSystem: false, range: .all,
                epoch: RegionEpoch(confVersion: 1, version: 1),
                peers: all.map {
                    PeerDescriptor(
                        peer: PeerID($0), node: NodeID($0),
                        roles: voters.contains($0) ? .voter : .learner)
                }),
            leader: PeerID(voters[0]), lastIndex: LogIndex(5000), isPending: false,
            peers: all.map {
                MemberView.Peer(peer: PeerID($0), match: LogIndex(5000), isActive: true)
            })
    }

    private func next(
        _ voters: [UInt64], _ learners: [UInt64] = [], to wanted: [UInt64],
        _ change: (inout MemberView) -> Void = { _ in }
    ) -> MemberMove {
        var view = Self.view(voters: voters, learners: learners)
        change(&view)
        return MemberEngine.next(view, wanted: Set(wanted.map { NodeID($0) }))
    }

    private func propose(_ steps: MemberStep...) -> MemberMove { .propose(MemberChange(steps)) }

    @Test("one step after the other")
    func table() {
        #expect(next([1, 2, 3], to: [1, 2, 3]) == .done)
        #expect(next([1, 2, 3], to: []) == .refused(.noVoters))
        // Adding.
        #expect(next([1], to: [1, 2, 3]) == .addLearner(on: NodeID(2)))
        #expect(next([1], [2], to: [1, 2, 3]) == propose(.promote(PeerID(2))))
        #expect(next([1, 2], to: [1, 2, 3]) == .addLearner(on: NodeID(3)))
        // Replacing: first the new one.
        #expect(next([1, 2, 3], to: [1, 2, 4]) == .addLearner(on: NodeID(4)))
        #expect(
            next([1, 2, 3], [4], to: [1, 2, 4]) == propose(.promote(PeerID(4)), .demote(PeerID(3))))
        #expect(next([1, 2, 4], [3], to: [1, 2, 4]) == propose(.removeLearner(PeerID(3))))
        // Removing.
        #expect(next([1, 2, 3], to: [1, 2]) == propose(.demote(PeerID(3))))
        #expect(next([1, 2], [3], to: [1, 2]) == propose(.removeLearner(PeerID(3))))
        // The leader is to go.
        #expect(next([1, 2, 3], to: [2, 3]) == .transfer(to: PeerID(2)))
        #expect(next([1, 2, 3], [4], to: [2, 3, 4]) == propose(.promote(PeerID(4))))
        #expect(next([1, 2, 3, 4], to: [2, 3, 4]) == .transfer(to: PeerID(2)))
        #expect(
            next([1, 2, 3], to: [2, 3]) { $0.peers[1].match = LogIndex(4500) }
                == .transfer(to: PeerID(3)))
    }

    @Test("waiting, and why")
    func waiting() {
        #expect(next([1, 2, 3], to: [1]) { $0.isPending = true } == .wait(.pending))
        #expect(
            next([1, 2], [3], to: [1, 2, 3]) { $0.peers[2].match = LogIndex(10) }
                == .wait(.notCaughtUp(PeerID(3), behind: 4990)))
        #expect(
            next([1, 2], [3], to: [1, 2, 3]) { $0.peers[2].isActive = false }
                == .wait(.silent(PeerID(3))))
        #expect(
            next([1, 2, 3], to: [1, 2]) { $0.peers[1].isActive = false }
                == .wait(.losesQuorum(ready: 1, of: 2)))
        func joint(_ view: inout MemberView) {
            view.descriptor.peers[0].roles = [.voter, .outgoingVoter]
        }
        #expect(next([1, 2, 3], to: [1, 2], joint) == .propose(.leaveJoint))
        #expect(
            next([1, 2, 3], to: [1, 2]) { view in
                joint(&view)
                view.descriptor.leavesJoint = true
            } == .wait(.joint))
        #expect(
            next([1, 2], to: [2]) { $0.peers[1].isActive = false } == .wait(.silent(PeerID(2))))
    }

    @Test("a peer that is down is replaced while most are up")
    func down() {
        #expect(
            next([1, 2, 3], [4], to: [1, 2, 4]) { $0.peers[2].isActive = false }
                == propose(.promote(PeerID(4)), .demote(PeerID(3))))
    }

    @Test("any members to any others: every step is allowed, quorums hold, and it ends")
    func exhaustive() {
        let sets: [[UInt64]] = (1..<32).map { bits in
            (1...5).filter { bits & (1 << ($0 - 1)) != 0 }
        }
        for from in sets {
            for to in sets {
                var view = Self.view(voters: from)
                let wanted = Set(to.map { NodeID($0) })
                var newest: UInt64 = 100
                var steps = 0
                var isDone = false
                while !isDone, steps < 60 {
                    steps += 1
                    switch MemberEngine.next(view, wanted: wanted) {
                    case .done: isDone = true
                    case .transfer(let peer): view.leader = peer
                    case .addLearner(let node):
                        newest += 1
                        apply(MemberChange([.addLearner(PeerID(newest), on: node)]), &view)
                        view.peers.append(
                            .init(peer: PeerID(newest), match: LogIndex(5000), isActive: true))
                    case .propose(let change):
                        #expect((try? view.check(change)) != nil)
                        apply(change, &view)
                        if view.descriptor.isJoint { apply(.leaveJoint, &view) }
                        let voters = view.descriptor.peers.count { $0.roles == .voter }
                        #expect(voters >= min(from.count, to.count))
                    case .wait(let reason), .refused(let reason):
                        Issue.record("\(from) to \(to): \(reason)")
                        isDone = true
                    }
                }
                #expect(isDone)
                #expect(Set(view.descriptor.peers.map(\.node)) == wanted)
                #expect(view.descriptor.peers.allSatisfy { $0.roles == .voter })
                #expect(MemberEngine.plan(Self.view(voters: from), wanted: wanted).refusal == nil)
            }
        }
    }

    private func apply(_ change: MemberChange, _ view: inout MemberView) {
        do {
            view.descriptor = try view.descriptor.applying(change.entry(of: view.descriptor))
        } catch { Issue.record("\(change) is void: \(error)") }
    }

    @Test("plans in words")
    func plans() {
        let view = Self.view(voters: [1, 2, 3])
        #expect(
            MemberEngine.plan(view, wanted: [NodeID(2), NodeID(3), NodeID(4)]).steps == [
                "add a learner on n4", "wait until the peer on n4 has caught up",
                "make p4 on n4 a voter", "hand leadership to p2 on n2",
                "make p1 on n1 a learner", "remove p1 on n1",
            ])
        #expect(MemberEngine.plan(view, wanted: []).refusal == .noVoters)
        var silent = view
        silent.peers[1].isActive = false
        let plan = MemberEngine.plan(silent, wanted: [NodeID(1), NodeID(2)])
        #expect(plan.refusal == .losesQuorum(ready: 1, of: 2))
    }

    // MARK: On a cluster

    private func ask(
        _ cluster: TestCluster, _ ask: MemberRequest, _ id: RegionID = TestCluster.id
    ) throws -> MemberReport {
        let leader = try #require(cluster.leads(id))
        let tag = cluster.submit(leader, .members(id, ask), key: Bytes())
        cluster.settle()
        guard case .members(let report)? = cluster.sink.replies[tag] else {
            throw ChangeRefusal.malformed("\(String(describing: cluster.sink.replies[tag]))")
        }
        return report
    }

    /// Asks for an aim until it is reached, whoever leads.
    private func reach(
        _ cluster: TestCluster, _ nodes: [Int], _ id: RegionID = TestCluster.id
    ) throws -> MemberReport {
        for _ in 0..<60 {
            if cluster.leads(id) != nil {
                let report = try ask(cluster, .set(nodes.map { cluster.node($0) }), id)
                if report.progress == .done { return report }
                if report.progress == .refused { return report }
            }
            for member in cluster.members { member.store?.completeFlush() }
            cluster.pass(milliseconds: 1000)
        }
        throw ChangeRefusal.pending
    }

    @Test(
        "set: five nodes to three to one to other three, the leader moved, ids from the allocator")
    func reached() throws {
        let cluster = TestCluster(nodes: 5, regions: 1, storeSeed: 7)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for nodes in [[0, 1, 2], [4], [2, 3, 4], [0, 1]] {
            for id in [TestCluster.id, RegionID.system] {
                let report = try reach(cluster, nodes, id)
                #expect(report.progress == .done && report.reason.isEmpty)
                #expect(Set(report.members.map(\.node)) == Set(nodes.map { cluster.node($0) }))
                #expect(report.members.allSatisfy { $0.roles == .voter })
            }
            guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "v")) else {
                Issue.record("the region does not write")
                return
            }
        }
        // Ids are never used twice, whoever gave them out.
        let peers = [TestCluster.id, .system].flatMap { id in
            cluster.descriptor(id)?.peers.map(\.peer) ?? []
        }
        #expect(Set(peers).count == peers.count)
        #expect(cluster.failures.isEmpty)
    }

    @Test("done is said when any one of three can be lost, the leader that made them three, too")
    func saidLate() throws {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 9)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        #expect(try reach(cluster, [0, 1]).progress == .done)
        let leader = try #require(cluster.leads())
        // The leader is heard until it has made them three, and no more.
        cluster.network.drops = { packet in
            packet.from == cluster.node(leader)
                && cluster.region(leader)?.descriptor.configuration.voters.count == 3
        }
        let all = [0, 1, 2].map { cluster.node($0) }
        _ = try ask(cluster, .set(all))
        for _ in 0..<40 where cluster.descriptor()?.configuration.voters.count != 3 {
            cluster.pass(milliseconds: 100)
        }
        #expect(cluster.descriptor()?.configuration.voters.count == 3)
        for _ in 0..<5 {
            // It leads until it finds that nobody answers.
            guard cluster.leads() == leader else { break }
            #expect(try ask(cluster, .set(all)).progress != .done)
            cluster.pass(milliseconds: 100)
        }
        cluster.network.drops = { _ in false }
        #expect(try reach(cluster, [0, 1, 2]).progress == .done)
        // Nothing is heard of who leads now, for good; the others come back from a loss of power.
        let lost = try #require(cluster.leads())
        for number in 0..<3 { cluster.crash(number, seed: UInt64(number)) }
        for number in 0..<3 where number != lost { try cluster.start(number) }
        cluster.pass(milliseconds: 5000)
        #expect(cluster.leads() != nil)
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "v")) else {
            Issue.record("two of three do not write")
            return
        }
    }

    @Test("plan changes nothing; what cannot be is refused with its reason")
    func refused() throws {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 8)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let leader = try #require(cluster.leads())
        let before = try #require(cluster.descriptor())
        let plan = try ask(cluster, .plan([cluster.node(leader)]))
        #expect(plan.steps.count == 4 && plan.progress == .done)
        cluster.pass(milliseconds: 3000)
        #expect(cluster.descriptor() == before)
        #expect(throws: ChangeRefusal.self) { try ask(cluster, .set([NodeID(9)])) }
        // Ids ascend: a node above all that are known here may have joined just now, and is asked for again.
        let known = try #require(cluster.members[leader].core?.knownNodes())
        let newest = try #require(known.last)
        for (stranger, isNew) in [
            (NodeID(newest.rawValue + 1), true), (NodeID(0), false),
        ] {
            try #require(!known.contains(stranger))
            let tag = cluster.submit(
                leader, .members(TestCluster.id, .set([stranger])), key: Bytes())
            cluster.settle()
            switch cluster.sink.replies[tag] {
            case .failed(.rejected(.unavailable(let reason)))? where isNew,
                .failed(.rejected(.invalid(let reason)))? where !isNew:
                #expect(reason.contains("has no node \(stranger)"), "\(reason)")
            case let other: Issue.record("\(stranger): \(String(describing: other))")
            }
        }
        #expect(throws: ChangeRefusal.self) { try ask(cluster, .plan([])) }
        #expect(throws: ChangeRefusal.self) { try ask(cluster, .transfer(NodeID(9))) }
        #expect(try ask(cluster, .report).wanted.isEmpty)
        // A follower sends those who ask to the leader.
        let tag = cluster.submit((leader + 1) % 3, .members(TestCluster.id, .report), key: Bytes())
        cluster.settle()
        guard case .failed(.rejected(.notLeader(let info)))? = cluster.sink.replies[tag] else {
            Issue.record("a follower answered")
            return
        }
        #expect(info.leader == cluster.node(leader))
        let heir = (leader + 1) % 3
        _ = try ask(cluster, .transfer(cluster.node(heir)))
        cluster.pass(milliseconds: 300)
        #expect(cluster.leads() == heir)
    }
}
