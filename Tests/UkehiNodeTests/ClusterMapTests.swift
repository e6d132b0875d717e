// The map of the cluster's regions on running nodes: it agrees with the regions, comes back when it is lost, and leads a
// client on where a node has no peer (RULES 63).

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("the cluster's map of regions")
struct ClusterMapTests {
    /// Three nodes with one region on all of them, and a fourth that joined and holds nothing.
    private func started() throws -> TestCluster {
        let cluster = TestCluster(nodes: 4, regions: 1, storeSeed: 3) { options in
            let first = ["node-1", "node-2", "node-3"]
            options.peers =
                first.contains(options.name)
                ? first.filter { $0 != options.name } : ["node-1"]
        }
        for number in 0..<3 { try cluster.start(number) }
        cluster.pass(milliseconds: 3000)
        for key in ["a", "g", "n", "t", "z"] as [Bytes] {
            guard case .command(.applied)? = try cluster.write(.put(key: key, value: key)) else {
                Issue.record("\(key) was not written")
                continue
            }
        }
        try cluster.start(3)
        cluster.pass(milliseconds: 12_000)
        #expect(cluster.members[3].core?.nodeID != nil)
        return cluster
    }

    private func split(_ cluster: TestCluster, at keys: [Bytes]) throws -> [RegionInfo] {
        let leader = try #require(cluster.leader(of: keys[0]))
        let tag = cluster.submit(leader, .split(keys), key: keys[0])
        cluster.settle()
        cluster.pass(milliseconds: 500)
        guard case .regions(let regions)? = cluster.sink.replies[tag] else {
            Issue.record("not divided: \(String(describing: cluster.sink.replies[tag]))")
            return []
        }
        return regions
    }

    /// What a member's region has by itself.
    private func own(_ cluster: TestCluster, _ number: Int) -> [RegionDescriptor] {
        cluster.members[number].core?.state.withLock { $0.table.ascending } ?? []
    }

    private func map(_ cluster: TestCluster, _ number: Int) -> [RegionDescriptor] {
        cluster.members[number].core?.state.withLock { $0.keeping.map.regions } ?? []
    }

    /// The map in the state of a member's system region, decoded.
    private func stored(_ cluster: TestCluster, _ number: Int) throws -> [RegionReport] {
        let core = try #require(cluster.members[number].core)
        let read = core.applier.read(
            region: .system,
            .scan(lower: SystemKey.regionsBegin, upper: SystemKey.regionsEnd, limit: 1000),
            tier: .any)
        guard case .scan(let page) = read else { return [] }
        return try page.pairs.map { try RegionReport.decode($0.value) }
    }

    private func systemLeader(_ cluster: TestCluster) throws -> Int {
        try #require(
            cluster.members.indices.first { cluster.members[$0].core?.isLeader ?? false })
    }

    @Test("every node has it, and one without a peer names who has the key")
    func everybody() throws {
        let cluster = try started()
        let made = try split(cluster, at: ["h", "p"])
        #expect(made.count == 3)
        cluster.pass(milliseconds: 5000)
        let truth = own(cluster, 0)
        #expect(truth.map(\.range) == made.map(\.range))
        for number in 0..<4 { #expect(map(cluster, number) == truth, "node \(number + 1)") }
        for number in 0..<3 {
            #expect(Set(try stored(cluster, number).map(\.region)) == Set(truth))
        }
        // The fourth has none of them, and what it offers others that join is whole.
        let joined = try #require(cluster.members[3].core?.nodeID)
        let offer = try #require(cluster.members[3].core?.welcome(joined))
        let record = try ClusterRecord.decode(offer)
        #expect(Set(record.regions.dropFirst().map(\.range)) == Set(truth.map(\.range)))
        #expect(record.regions.first?.region == .system)
        // It knew of one region as it joined.
        let topology = try #require(cluster.members[3].core?.topology)
        #expect(topology.regions.map(\.region) == made.map(\.region))
        let hearsay = cluster.members[3].core?.state.withLock { $0.hearsay.map(\.region) }
        #expect(hearsay == [.system] + made.map(\.region).sorted())
        for key in ["a", "n", "z"] as [Bytes] {
            let tag = cluster.submit(3, .get(.linearizable), key: key)
            cluster.settle()
            guard case .failed(.rejected(.notLeader(let info)))? = cluster.sink.replies[tag] else {
                Issue.record("it answers \(String(describing: cluster.sink.replies[tag]))")
                continue
            }
            #expect(info.region == made.first { $0.range.contains(key) }?.region)
            #expect(info.nodes == [NodeID(1), NodeID(2), NodeID(3)])
        }
        // At rest nothing is written or asked.
        let before = try stored(cluster, 0)
        var said: [MessageKind] = []
        cluster.network.drops = { packet in
            said += packet.messages.map(\.message.kind).filter {
                [.reportRegions, .requestRegions, .regions].contains($0)
            }
            return false
        }
        cluster.pass(milliseconds: 5000)
        #expect(said.isEmpty)
        #expect(try stored(cluster, 0) == before)
        #expect(cluster.failures.isEmpty)
    }

    @Test("lost from the system region, it is there again under its next leader")
    func rebuilt() throws {
        let cluster = try started()
        _ = try split(cluster, at: ["h", "p"])
        cluster.pass(milliseconds: 3000)
        let truth = own(cluster, 0)
        let leader = try systemLeader(cluster)
        let core = try #require(cluster.members[leader].core)
        // One record rots, the others are lost.
        core.submitSystem(
            .batch([
                .deleteRange(lower: SystemKey.regionsBegin, upper: SystemKey.regionsEnd),
                .put(key: SystemKey.region(truth[0].region), value: "rot"),
            ]), key: SystemKey.regionsBegin
        ) { _ in }
        cluster.settle()
        #expect(throws: (any Error).self) { try stored(cluster, leader) }
        cluster.crash(leader, seed: 4)
        cluster.pass(milliseconds: 6000)
        let next = try systemLeader(cluster)
        #expect(next != leader)
        #expect(Set(try stored(cluster, next).map(\.region)) == Set(truth))
        #expect(map(cluster, 3) == truth)
        try cluster.start(leader)
        cluster.pass(milliseconds: 5000)
        #expect(map(cluster, leader) == truth)
        #expect(Set(try stored(cluster, leader).map(\.region)) == Set(truth))
        #expect(cluster.failures.isEmpty)
    }

    @Test("what the next leader of the system region knows of a region that nobody leads any more")
    func kept() throws {
        let cluster = try started()
        _ = try split(cluster, at: ["h"])
        cluster.pass(milliseconds: 3000)
        let truth = own(cluster, 0)
        // All come back with empty memories but for what is on their disks; the regions are led again, and those
        // reports do not arrive.
        cluster.network.drops = { $0.messages.contains { $0.message.kind == .reportRegions } }
        for number in 0..<4 { cluster.crash(number, seed: 9) }
        for number in 0..<4 { try cluster.start(number) }
        cluster.pass(milliseconds: 8000)
        // None is led by who leads the system region next: it would tell itself.
        let system = try systemLeader(cluster)
        cluster.crash(system, seed: 10)
        cluster.pass(milliseconds: 8000)
        let next = try systemLeader(cluster)
        for region in truth where cluster.leads(region.region) == next {
            let heir = try #require((0..<3).first { ![next, system].contains($0) })
            let peer = try #require(cluster.region(heir, region.region)).peer
            cluster.members[next].core?.lanes[0].transferLeadership(of: region.region, to: peer)
            cluster.settle()
        }
        #expect(truth.allSatisfy { cluster.leads($0.region) != next })
        try cluster.start(system)
        cluster.pass(milliseconds: 8000)
        #expect(map(cluster, next) == truth)
        #expect(map(cluster, system) == truth)
        // Nobody but the map has told the fourth of them.
        cluster.crash(3, seed: 11)
        try cluster.start(3)
        cluster.pass(milliseconds: 8000)
        #expect(map(cluster, 3) == truth)
        #expect(cluster.failures.isEmpty)
    }

    @Test("a change of members and a report that is lost arrive all the same")
    func changes() throws {
        let cluster = try started()
        _ = try split(cluster, at: ["h"])
        cluster.pass(milliseconds: 3000)
        let child = try #require(own(cluster, 0).first)
        let joined = try #require(cluster.members[3].core?.nodeID)
        var lost = 0
        cluster.network.drops = { packet in
            let isReport = packet.messages.contains {
                [.reportRegions, .reportRegionsResponse, .regions].contains($0.message.kind)
            }
            guard isReport, lost < 3 else { return false }
            lost += 1
            return true
        }
        var isSet = false
        for _ in 0..<40 where !isSet {
            for number in 0..<3 {
                let tag = cluster.submit(
                    number, .members(child.region, .set([NodeID(1), NodeID(2), joined])),
                    key: Bytes())
                cluster.settle()
                if case .members(let report)? = cluster.sink.replies[tag],
                    report.progress == .done
                {
                    isSet = true
                }
            }
            cluster.pass(milliseconds: 500)
        }
        #expect(isSet, "\(cluster.dump())")
        cluster.pass(milliseconds: 15_000)
        #expect(lost == 3)
        let now = try #require(own(cluster, 3).first)
        #expect(now.region == child.region && now.epoch.confVersion > child.epoch.confVersion)
        for number in 0..<4 { #expect(map(cluster, number).first == now, "node \(number + 1)") }
        // The third has no peer of it any more, and says where it is.
        #expect(cluster.members[2].core?.state.withLock { $0.own(child.region) } == nil)
        guard case .notLeader(let info)? = cluster.members[2].core?.elsewhere("a") else {
            Issue.record("nobody is named")
            return
        }
        #expect(info.nodes == now.peers.map(\.node))
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "without the system region regions are divided and serve; it hears of them when it is there again"
    )
    func withoutSystem() throws {
        let cluster = try started()
        let leader = try #require(cluster.leader(of: "a"))
        // Ids were put aside by a division; nothing of the system region passes any more.
        _ = try split(cluster, at: ["h"])
        cluster.pass(milliseconds: 3000)
        cluster.network.drops = { $0.messages.contains { $0.region == .system } }
        cluster.pass(milliseconds: 5000)
        let before = try stored(cluster, leader).map(\.region.region)
        let made = try split(cluster, at: ["p"])
        #expect(made.count == 2)
        for key in ["a", "n", "z"] as [Bytes] {
            guard case .command(.applied)? = try cluster.write(.put(key: key, value: key)) else {
                Issue.record("\(key) was not written")
                continue
            }
        }
        #expect(try stored(cluster, leader).map(\.region.region) == before)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 8000)
        for number in 0..<4 { #expect(map(cluster, number) == own(cluster, 0)) }
        #expect(cluster.failures.isEmpty)
    }

    @Test("who loses its peer of the system region leads no map; a recovery forgets no region")
    func departures() throws {
        let cluster = try started()
        _ = try split(cluster, at: ["h"])
        cluster.pass(milliseconds: 3000)
        let truth = own(cluster, 0)
        let leader = try systemLeader(cluster)
        let core = try #require(cluster.members[leader].core)
        let last = try #require(core.state.withLock { $0.system })
        core.state.withLock { state in
            #expect(state.keeping.term > .zero && state.keeping.isLoaded)
            state.keeping.beginsGeneration()
            #expect(!state.keeping.isLoaded && state.keeping.told == nil)
            #expect(state.keeping.map.regions == truth && state.keeping.map.revision == 0)
            state.remove(last, held: .all)
            #expect(state.keeping.term == .zero)
        }
    }

    @Test("what was heard otherwise counts where it is newer than the map")
    func hearsay() throws {
        let cluster = try started()
        cluster.pass(milliseconds: 3000)
        let core = try #require(cluster.members[3].core)
        let known = try #require(map(cluster, 3).first)
        func holder(of heard: RegionDescriptor) -> [NodeID]? {
            core.state.withLock { $0.foreign[heard.region] = heard }
            guard case .notLeader(let info) = core.elsewhere("a") else { return nil }
            return info.nodes
        }
        var heard = known
        heard.peers = [PeerDescriptor(peer: PeerID(900), node: NodeID(2))]
        // As old as the map: that is believed.
        #expect(holder(of: heard) == known.peers.map(\.node))
        heard.epoch.confVersion += 1
        #expect(holder(of: heard) == [NodeID(2)])
        #expect(core.topology?.regions.map(\.nodes) == [[NodeID(2)]])
        heard.epoch.version += 1
        heard.epoch.confVersion -= 1
        heard.range = KeyRange(lower: "", upper: "h")
        #expect(holder(of: heard) == [NodeID(2)])
        // The node itself has no peer of it, whatever it has heard.
        heard.peers.append(
            PeerDescriptor(peer: PeerID(901), node: try #require(core.nodeID)))
        #expect(holder(of: heard) == [NodeID(2)])
        heard.peers.removeFirst()
        guard case .unavailable = core.elsewhere("a") else {
            #expect(holder(of: heard) == nil)
            return
        }
        #expect(holder(of: heard) == nil)
        heard.peers = [PeerDescriptor(peer: PeerID(900), node: NodeID(2))]
        // A map of after a recovery outweighs what was heard before, and not what was heard since.
        core.state.withLock { state in
            _ = state.keeping.map.take([
                MappedRegion(report: RegionReport(known, generation: 1), revision: 1)
            ])
        }
        #expect(holder(of: heard) == known.peers.map(\.node))
        core.state.withLock { $0.keeping.heardAt[heard.region] = 1 }
        #expect(holder(of: heard) == [NodeID(2)])
        // What others took the place of is still known to a recovery, and by its id.
        var other = known
        other.region = RegionID(77)
        other.epoch.version += 9
        core.state.withLock { state in
            state.keeping.heardAt = [:]
            _ = state.keeping.map.take([
                MappedRegion(report: RegionReport(other, generation: 1), revision: 2)
            ])
            #expect(state.keeping.map[heard.region] == nil)
            #expect(state.hearsay.map(\.region) == [.system, heard.region, RegionID(77)])
            #expect(state.elsewhere.map(\.region) == [RegionID(77)])
            #expect(state.foreignRegion(heard.region) == heard)
        }
    }

    @Test("what a node may not say is not believed")
    func hostile() throws {
        let cluster = try started()
        cluster.pass(milliseconds: 3000)
        let leader = try systemLeader(cluster)
        let core = try #require(cluster.members[leader].core)
        let truth = try #require(own(cluster, leader).first)
        func say(_ message: Message, from node: UInt64) {
            core.received(
                [
                    RegionMessage(
                        region: .system, epoch: RegionEpoch(confVersion: 1, version: 1),
                        message: message)
                ], from: NodeID(node))
            cluster.pass(milliseconds: 2000)
        }
        var forged = truth
        forged.epoch.version += 5
        func report(_ region: RegionDescriptor, generation: UInt64 = 0) -> Message {
            Message(
                kind: .reportRegions, index: LogIndex(1), commit: LogIndex(generation),
                context: MappedRegion.encoded([
                    MappedRegion(
                        report: RegionReport(region, generation: generation), revision: 0)
                ]))
        }
        // From one that is no member of it, of another generation, and no bytes of a report.
        say(report(forged), from: 4)
        say(report(forged, generation: 3), from: 1)
        say(Message(kind: .reportRegions, index: LogIndex(1), context: "rot"), from: 1)
        // What a follower has not asked for, and what begins behind what it has.
        let follower = try #require(cluster.members[(leader + 1) % 3].core)
        let system = try #require(core.nodeID)
        for (node, base) in [(NodeID(4), 0), (system, 1 << 40)] as [(NodeID, UInt64)] {
            follower.received(
                [
                    RegionMessage(
                        region: .system, epoch: RegionEpoch(confVersion: 1, version: 1),
                        message: Message(
                            kind: .regions, logTerm: Term(base), index: LogIndex(1 << 41),
                            context: MappedRegion.encoded([
                                MappedRegion(
                                    report: RegionReport(forged, generation: 0), revision: 1 << 40)
                            ])))
                ], from: node)
            cluster.pass(milliseconds: 2000)
        }
        // A report of this generation whose regions are of another.
        var mixed = report(forged, generation: 0)
        mixed.context = MappedRegion.encoded([
            MappedRegion(report: RegionReport(forged, generation: 5), revision: 0)
        ])
        say(mixed, from: 1)
        // To the leader nobody says what the map is.
        say(
            Message(
                kind: .regions, index: LogIndex(1 << 40),
                context: MappedRegion.encoded([
                    MappedRegion(report: RegionReport(forged, generation: 0), revision: 1 << 40)
                ])), from: 2)
        say(Message(kind: .regions, index: LogIndex(9), context: "rot"), from: 2)
        say(Message(kind: .requestRegions, index: LogIndex(1 << 61)), from: 2)
        say(Message(kind: .reportRegionsResponse, term: Term(1 << 61)), from: 2)
        for number in 0..<4 { #expect(map(cluster, number) == [truth]) }
        #expect(cluster.failures.isEmpty)
    }
}
