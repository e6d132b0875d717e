// The map of the cluster's regions agrees with the regions, comes back when it is lost, and leads a client on
// where a node has no peer (RULES 63).

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("map of regions")
struct RegionMapTests {
    private static func region(
        _ id: UInt64, _ lower: Bytes, _ upper: Bytes, version: UInt64 = 1, members: UInt64 = 1
    ) -> RegionDescriptor {
        RegionDescriptor(
            region: RegionID(id), isSystem: false, range: KeyRange(lower: lower, upper: upper),
            epoch: RegionEpoch(confVersion: members, version: version),
            peers: [PeerDescriptor(peer: PeerID(id * 10), node: NodeID(1))])
    }

    private static func change(
        _ region: RegionDescriptor, generation: UInt64 = 0, revision: UInt64 = 0
    ) -> MappedRegion {
        MappedRegion(
            report: RegionReport(region, generation: generation), revision: revision)
    }

    @Test("the newer report is taken, and what it leaves no room for goes")
    func newer() {
        var map = RegionMap()
        let whole = Self.region(2, "", "", members: 3)
        #expect(map.take([Self.change(whole)]).taken.count == 1)
        #expect(map.take([Self.change(whole)]).taken.isEmpty)
        #expect(map.take([Self.change(Self.region(2, "", "", members: 2))]).taken.isEmpty)
        // The new region is heard of first.
        let child = Self.region(5, "", "h", version: 2)
        let (taken, superseded) = map.take([Self.change(child)])
        #expect(taken.count == 1 && superseded == [RegionID(2)])
        #expect(map.region(of: "a") == child && map.region(of: "h") == nil)
        // Late, and from before.
        #expect(map.take([Self.change(whole)]).taken.isEmpty)
        let rest = Self.region(2, "h", "", version: 2)
        #expect(map.take([Self.change(rest)]).superseded.isEmpty)
        #expect(map.regions == [child, rest])
        #expect(map.region(of: "h") == rest && map[RegionID(5)] == child)
        // Of the same version as what is there: one of them is wrong, and nobody knows which.
        #expect(map.take([Self.change(Self.region(9, "c", "d", version: 2))]).taken.isEmpty)
        // A recovery from a lost quorum undid the division.
        let again = map.take([Self.change(whole, generation: 1)])
        #expect(again.superseded == [RegionID(5)] && map.regions == [whole])
        #expect(map.take([Self.change(child)]).taken.isEmpty)
        // Both at once, in any order.
        for changes in [[child, rest], [rest, child]] {
            var map = RegionMap()
            _ = map.take([Self.change(whole)])
            #expect(map.take(changes.map { Self.change($0) }).superseded.isEmpty)
            #expect(map.regions == [child, rest])
        }
        var system = Self.region(1, "", "")
        system.isSystem = true
        #expect(map.take([Self.change(system, generation: 9)]).taken.isEmpty)
    }

    @Test(
        "reports in any order lead to the regions as they are",
        arguments: 1...20 as ClosedRange<UInt64>)
    func anyOrder(seed: UInt64) throws {
        let random = NodeRandom(seed: seed)
        func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
        // The truth, region by region, and everything that was ever true.
        var truth: [RegionDescriptor] = [Self.region(2, "", "")]
        var reports = [Self.change(truth[0])]
        var next: UInt64 = 3
        for _ in 0..<120 {
            let place = below(truth.count)
            var region = truth[place]
            if below(3) == 0 {
                region.epoch.confVersion += 1
                truth[place] = region
                reports.append(Self.change(region))
                continue
            }
            let key = Bytes([UInt8(below(256)), UInt8(below(256))])
            guard key > region.range.lower, region.range.contains(key) else { continue }
            var child = Self.region(
                next, region.range.lower, key, version: region.epoch.version + 1)
            child.epoch.confVersion = region.epoch.confVersion
            next += 1
            region.epoch.version += 1
            region.range = KeyRange(lower: key, upper: region.range.upper)
            truth.replaceSubrange(place...place, with: [child, region])
            reports += [Self.change(child), Self.change(region)]
        }
        // Some are reported again after a recovery that changed nothing else.
        var generations: [RegionID: UInt64] = [:]
        for place in truth.indices where below(4) == 0 {
            reports.append(Self.change(truth[place], generation: 1))
            truth[place].epoch.confVersion += 1
            generations[truth[place].region] = 1
        }
        // The last ones arrive, whatever was before; some twice.
        let last = truth.map { Self.change($0, generation: generations[$0.region] ?? 0) }
        var sent = reports.filter { _ in below(3) > 0 } + last
        for position in sent.indices.reversed() { sent.swapAt(position, below(position + 1)) }
        sent += last

        var leader = RegionMap()
        // What the system region has.
        var store: [RegionID: MappedRegion] = [:]
        var follower = RegionMap()
        var revision: UInt64 = 0
        func follow() {
            let (changes, reached) = leader.changes(
                after: follower.revision, maxBytes: below(600))
            guard let sent = try? MappedRegion.decode(MappedRegion.encoded(changes)) else {
                Issue.record("what was told cannot be read")
                return
            }
            _ = follower.take(sent)
            follower.reached(reached)
        }
        while !sent.isEmpty {
            let batch = sent.prefix(1 + below(9))
            sent.removeFirst(batch.count)
            let before = leader
            let (taken, superseded) = leader.take(Array(batch))
            // Somebody asks while that is being written.
            if below(3) == 0 { follow() }
            guard below(6) > 0 else {
                // The write comes to nothing, and with it the leader; the next one is told again.
                leader = RegionMap()
                _ = leader.take(Array(store.values))
                leader.reached(store.values.map(\.revision).max() ?? 0)
                sent = Array(batch) + sent
                continue
            }
            revision += 1
            for region in superseded { store[region] = nil }
            for change in taken {
                store[change.report.region.region] = MappedRegion(
                    report: change.report, revision: revision)
            }
            leader.stored(taken.map(\.report.region.region), at: revision)
            let map = leader.regions
            #expect(
                zip(map, map.dropFirst()).allSatisfy { !$0.range.overlaps($1.range) })
            for region in superseded { #expect(leader[region] == nil) }
            for region in before.regions where !superseded.contains(region.region) {
                let now = try #require(leader[region.region])
                #expect(now.epoch.version >= region.epoch.version)
                #expect(now.epoch.confVersion >= region.epoch.confVersion)
            }
            if below(4) == 0 { follow() }
        }
        #expect(leader.regions == truth)
        while follower.revision < leader.revision {
            let (changes, reached) = leader.changes(after: follower.revision, maxBytes: 100)
            #expect(reached > follower.revision)
            _ = follower.take(changes)
            follower.reached(reached)
        }
        #expect(follower.regions == truth)
    }

    @Test("who asks while a region's next record is being written gets the region all the same")
    func whileWritten() {
        var leader = RegionMap()
        _ = leader.take([Self.change(Self.region(2, "", "x"), revision: 20)])
        _ = leader.take([Self.change(Self.region(9, "x", ""), revision: 40)])
        leader.reached(40)
        // Divided, and not written yet.
        let halves = [
            Self.region(5, "", "h", version: 2), Self.region(2, "h", "x", version: 2),
        ]
        _ = leader.take(halves.map { Self.change($0) })
        var follower = RegionMap()
        let (changes, reached) = leader.changes(after: 0, maxBytes: 1 << 20)
        #expect(reached == 40)
        _ = follower.take(changes)
        #expect(follower.regions == halves + [Self.region(9, "x", "")])
    }

    @Test(
        "records and changes are read to the last byte; cut, flipped or lying ones are refused or harmless"
    )
    func bytes() throws {
        let report = RegionReport(Self.region(7, "d", "p", version: 4), generation: 3)
        let record = report.encoded()
        #expect(try RegionReport.decode(record) == report)
        let changes = [
            Self.change(Self.region(7, "d", "p", version: 4), generation: 3, revision: 88),
            Self.change(Self.region(9, "p", ""), revision: 90),
        ]
        let sent = MappedRegion.encoded(changes)
        #expect(try MappedRegion.decode(sent) == changes)
        for length in 0..<record.count {
            #expect(throws: DecodeError.self) { try RegionReport.decode(record[0..<length]) }
        }
        for length in 0..<sent.count {
            #expect(throws: DecodeError.self) { try MappedRegion.decode(sent[0..<length]) }
        }
        for bytes in [record, sent] {
            for bit in 0..<bytes.count * 8 {
                var flipped = bytes.array
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                // What is read all the same can be taken in.
                var map = RegionMap()
                if let report = try? RegionReport.decode(Bytes(flipped)) {
                    _ = map.take([MappedRegion(report: report, revision: 1)])
                }
                if let changes = try? MappedRegion.decode(Bytes(flipped)) { _ = map.take(changes) }
            }
        }
        var system = Self.region(1, "", "")
        system.isSystem = true
        #expect(throws: DecodeError.self) {
            try RegionReport.decode(RegionReport(system, generation: 0).encoded())
        }
        #expect(throws: DecodeError.self) {
            try MappedRegion.decode(Bytes([0xff, 0xff, 0xff, 0xff]))
        }
        #expect(SystemKey.region(of: SystemKey.region(RegionID(300))) == RegionID(300))
        #expect(SystemKey.region(of: "region/300") == nil && SystemKey.region(of: "ids") == nil)
        #expect(SystemKey.region(RegionID(255)) < SystemKey.region(RegionID(256)))
    }
}

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
        #expect(hearsay == made.map(\.region).sorted())
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
        // A map of after a recovery outweighs what was heard before.
        core.state.withLock { state in
            _ = state.keeping.map.take([
                MappedRegion(report: RegionReport(known, generation: 1), revision: 1)
            ])
        }
        #expect(holder(of: heard) == known.peers.map(\.node))
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
