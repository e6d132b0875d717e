// One seed from beginning to end: a cluster, clients, faults; then peace, in which everything must
// come back; then the verdict.

import UkehiBase
package import UkehiEnvironment
import UkehiNode
import UkehiState

/// What one seed came to.
package struct SimulationResult: Sendable {
    package var seed: UInt64
    package var settings: String
    package var failure: SimulationFailure?
    /// What happened last before the failure, oldest first.
    package var lastEvents: [String] = []
    package var traceHash: UInt64
    package var simulatedNanoseconds: UInt64
    package var faults: Int
    package var events: UInt64
    package var operations: Int
    package var elections: Int
    package var committedEntries: Int
    /// Histories that the linearizability checker gave up on.
    package var undecided: Int
    /// Nodes that refused to go on with a damaged disk.
    package var refusedNodes = 0
    /// Changes of regions' members that were committed.
    package var memberChanges = 0
    /// Peers that came to be later than their regions.
    package var newPeers = 0
    /// Divisions of regions that were committed.
    package var splits = 0
    /// Those of them that nobody asked for.
    package var unaskedSplits = 0
    /// Nodes that lost their disks and came back as new ones.
    package var wipedNodes = 0
    /// Recoveries of survivors from lost quorums, and regions that lost committed entries by them.
    package var recoveries = 0
    package var regionsWithLosses = 0
    /// Damaged bodies that nodes wrote again from their peers' entries.
    package var mendedBodies = 0
    /// Regions on nodes that a snapshot has replaced.
    /// Writes of sessions that were carried out, and how often they were committed.
    package var sessionWrites = 0
    package var sessionCopies = 0
    package var snapshotsInstalled = 0
    /// How often each point in the code was asked, and took its rare path.
    package var rarePaths: [(path: RarePath, asked: UInt64, taken: UInt64)] = []
}

/// Runs one seed.
package final class SimulationRun {
    private let seed: UInt64
    private let options: SwarmOptions
    let cluster: SimulatedCluster
    let injector: FaultInjector
    private let members: MembershipDriver?
    private let splits: SplitDriver?
    var dividesRegions: Bool { splits != nil }
    private let wiper: NodeDriver?
    var recoveries = 0
    /// Regions that lost committed entries, as a plan had said they may.
    var excused: Set<RegionID> = []
    var recoverySeed: UInt64 { seed ^ 0x5245_434f }
    private let schedule: FaultSchedule
    private let faultNanoseconds: UInt64
    private var clients: [SimulatedClient] = []
    let keys: SimulatedKeys
    var history: [HistoryOperation] = []
    var outcomes = OutcomeChecker()
    var sessions = SessionChecker()
    var digests = DigestChecker()
    private var lastValue: UInt64 = 0
    var undecided = 0
    /// Decides which ends of processes are looked at closely: reading a whole log takes a while.
    var auditRandom: SeededRandom

    /// - Parameters:
    ///   - minutes: Simulated time with faults.
    ///   - scenario: Which kinds of fault may occur.
    ///   - onlyFaults: Leave out all other faults of the schedule; nil: none.
    ///   - rarePercent: How many of a hundred rare paths are on; nil: as the seed draws it.
    ///   - nodes: How many nodes; nil: as the seed draws it.
    ///   - regions: How many regions; nil: as the seed draws it.
    package init(
        seed: UInt64, minutes: Double, scenario: Scenario = .swarm, onlyFaults: Set<Int>? = nil,
        rarePercent: UInt64? = nil, nodes: Int? = nil, regions: Int? = nil
    ) {
        self.seed = seed
        auditRandom = SeededRandom(seed: seed ^ 0x4155_4449_54)
        var drawn = SwarmOptions(
            seed: seed, scenario: scenario, nodes: nodes, regions: regions)
        if let rarePercent { drawn.rarePercent = rarePercent }
        let options = drawn
        self.options = options
        faultNanoseconds = UInt64(minutes * 60_000_000_000)
        cluster = SimulatedCluster(seed: seed, options: options, state: .keyValue)
        keys = SimulatedKeys(
            ranges: options.ranges, perRegion: options.keysPerRegion,
            hasCounters: options.usesSessions)
        let all = FaultSchedule(seed: seed, options: options, nanoseconds: faultNanoseconds)
        schedule = onlyFaults.map { all.keeping($0) } ?? all
        let log = cluster.log
        injector = FaultInjector(
            world: cluster.world, nodes: cluster.nodes, network: cluster.network,
            observer: cluster.observer, seed: seed,
            electionTimeoutMilliseconds: options.electionTimeoutMilliseconds,
            rotsAll: scenario == .rot,
            report: { log.add(.fault($0)) },
            ended: { log.add(.ended(node: $0, reason: $1)) })
        let world = cluster.world
        let damageable = options.damagesDisks ? injector.corruptible : []
        members = options.membersEveryMilliseconds.map { [cluster] interval in
            MembershipDriver(
                world: cluster.world, nodes: cluster.nodes, network: cluster.network,
                regions: options.regions, everyMilliseconds: interval, damageable: damageable,
                seed: seed)
        }
        splits = options.splitsEveryMilliseconds.map { [cluster, keys] interval in
            SplitDriver(
                world: cluster.world, nodes: cluster.nodes, keys: keys,
                everyMilliseconds: interval, asksForIDs: options.dividesThemselves, seed: seed)
        }
        cluster.observer.isDamaged = { damageable.contains($0) }
        cluster.observer.isVoid = { [splits] in splits?.void.contains($0) ?? false }
        cluster.observer.isAsked = { [splits] in splits?.named.contains($0) ?? false }
        cluster.observer.judgePart = { [keys] in Self.problem(ofPart: $0, keys) }
        wiper = options.wipesEveryMilliseconds.map { [cluster] interval in
            NodeDriver(
                world: cluster.world, nodes: cluster.nodes, network: cluster.network,
                observer: cluster.observer, regions: options.regions, everyMilliseconds: interval,
                seed: seed,
                report: { log.add(.ended(node: $0, reason: "its disk is lost")) })
        }
        for node in cluster.nodes {
            node.onLost = { [injector] error in
                log.add(.ended(node: node.number, reason: "\(error)"))
                if error.code != .corrupted || !injector.corruptible.contains(node.number) {
                    world.fail("node-\(node.number + 1) cannot start any more: \(error)")
                }
            }
        }
    }

    /// What comes out of a region that was divided unasked has keys: so there are never more of them than
    /// keys, and dividing comes to an end (RULES 30).
    private static func problem(ofPart part: RegionDescriptor, _ keys: SimulatedKeys) -> String? {
        (0..<keys.count).contains { part.range.contains(keys.name($0)) }
            ? nil : "divided unasked, so that \(part.region) can have no key"
    }

    /// The numbers of the schedule's faults.
    package var faultNumbers: [Int] { schedule.faults.map(\.number) }

    package func run() -> SimulationResult {
        let world = cluster.world
        var random = SeededRandom(seed: seed ^ 0x434c_4945_4e54)
        for number in 0..<options.clients {
            let client = SimulatedClient(
                number: number, world: world, nodes: cluster.nodes, keys: keys,
                latency: 20_000...500_000, think: 1_000_000...80_000_000,
                taste: options.dividesThemselves ? .varied : .meeting,
                random: SeededRandom(seed: random.next()),
                nextValue: { [unowned self] in
                    lastValue += 1
                    return lastValue
                },
                record: { [unowned self] operation in
                    history.append(operation)
                    answered(operation)
                    cluster.log.add(
                        .operation(operation),
                        region: UInt64(keys.region(of: firstKey(operation.action))) + 2)
                })
            client.onRejected = { [unowned self] in rejected($0) }
            client.onSessionRejected = { [unowned self] in rejected($0, isExpired: $1) }
            // Some do without, beside the others.
            if options.usesSessions, number % 4 != 3 {
                client.openSession(random: SeededRandom(seed: random.next()))
            }
            clients.append(client)
            client.start()
        }
        startCheckers()
        injector.run(schedule)
        members?.start()
        splits?.start()
        wiper?.start()
        world.run(until: faultNanoseconds)
        if world.failure == nil { comeBack() }
        if world.failure == nil { lookClosely() }
        if world.failure == nil { judge() }
        return SimulationResult(
            seed: seed, settings: options.description, failure: world.failure,
            lastEvents: world.failure.map { lastEvents(before: $0) } ?? [],
            traceHash: world.trace.value, simulatedNanoseconds: world.now,
            faults: injector.injected.values.reduce(0, +), events: world.eventsRun,
            operations: history.count, elections: cluster.observer.elections,
            committedEntries: cluster.observer.committedEntries, undecided: undecided,
            refusedNodes: lostNodes,
            memberChanges: cluster.observer.configurations.changes,
            newPeers: cluster.observer.newPeers.count,
            splits: cluster.observer.configurations.splits,
            unaskedSplits: cluster.observer.unaskedSplits.count,
            wipedNodes: wiper?.wipes ?? 0, recoveries: recoveries,
            regionsWithLosses: excused.count,
            mendedBodies: cluster.nodes.reduce(0) { $0 + $1.mendedBodies },
            sessionWrites: sessions.carriedOut, sessionCopies: sessions.copiesInLogs,
            snapshotsInstalled: cluster.observer.replacements,
            rarePaths: cluster.rarePaths.counts)
    }

    /// What happened last, and how each node stands.
    private func lastEvents(before failure: SimulationFailure) -> [String] {
        var lines = cluster.log.lines(region: failure.region, count: 60)
        guard let region = failure.region else { return lines }
        for node in cluster.nodes {
            let standing = node.lane?.standing(of: RegionID(region))
            lines.append("in the end  node-\(node.number + 1) \(standing ?? "is not up")")
        }
        return lines
    }

    func firstKey(_ action: HistoryOperation.Action) -> Int {
        switch action {
        case .get(let key), .put(let key, _), .delete(let key), .compareAndSet(let key, _, _),
            .increment(let key):
            key
        case .scan(let keys): keys[0]
        }
    }

    // MARK: Peace

    /// No more faults: within ten simulated seconds every region has a leader, all replicas agree
    /// and hold what was acknowledged.
    private func comeBack() {
        let world = cluster.world
        for client in clients { client.stop() }
        members?.stop()
        splits?.stop()
        wiper?.stop()
        injector.heal()
        cluster.rarePaths.isQuiet = true
        // What clients still wait for comes to its end, then everything must be well.
        world.run(until: world.now + 10_000_000_000)
        guard world.failure == nil else { return }
        fillPlaces()
        if world.failure == nil, options.losesQuorum, wiper?.hasCluster ?? false { loseQuorum() }
        guard world.failure == nil else { return }
        var lost = lostNodes
        for region in regionsInTheEnd() {
            if lostNodes != lost {
                // It met its damage only now.
                lost = lostNodes
                world.run(until: world.now + 5_000_000_000)
            }
            // Where most copies are gone nobody can lead; that nobody lied is what the history shows.
            guard options.nodes - lostNodes > options.nodes / 2 || mayMove else { return }
            let id = region.id
            if cluster.leader(of: region.key) == nil, mayLackLeader(id) { return }
            guard isLed(region) else {
                return world.fail(
                    "\(id) has no leader ten seconds after the last fault", region: id.rawValue)
            }
            for key in region.clientKeys { read(key) }
            do {
                let digests = try settledDigests(region)
                // Who the members are is asked of whoever leads; it may be on its way again (9301223 of `nodes`).
                _ = isLed(region)
                guard digests.count == holders(id).count - standingStill(id).count else {
                    if lostNodes != lost { continue }
                    return world.fail(
                        "only \(digests.keys.sorted().map { "node-\($0 + 1)" }) answer for \(id), which has "
                            + cluster.observer.configurations.description(of: id),
                        region: id.rawValue)
                }
                guard Set(digests.values).count == 1 else {
                    return world.fail(
                        "replicas of \(id) differ: "
                            + digests.sorted { $0.key < $1.key }
                            .map {
                                "node-\($0.key + 1) at \($0.value.applied): "
                                    + String($0.value.low, radix: 16)
                            }.joined(separator: ", "), region: id.rawValue)
                }
            } catch { return }
        }
        if let problem = coverageInTheEnd() { world.fail(problem) }
        if world.failure == nil { mapInTheEnd() }
    }

    /// A region as the faults have left it.
    private struct EndRegion {
        var id: RegionID
        /// One of its keys.
        var key: Bytes
        var clientKeys: [Int]
    }

    /// All user regions, ascending by range; as first divided by anybody.
    private func regionsInTheEnd() -> [EndRegion] {
        guard dividesRegions else {
            return keys.ranges.indices.map { region in
                let own = keys.keys(of: region)
                return EndRegion(
                    id: RegionID(UInt64(region + 2)), key: keys.name(own[0]), clientKeys: own)
            }
        }
        return cluster.observer.configurations.newest.filter { !$0.isSystem }.map { region in
            let own = (0..<keys.count).filter { region.range.contains(keys.name($0)) }
            return EndRegion(
                id: region.region, key: own.first.map { keys.name($0) } ?? region.range.lower,
                clientKeys: own)
        }
    }

    /// Whether a region has a leader, or is being handed to one at this very moment: leaders are balanced in
    /// peace, too.
    private func isLed(_ region: EndRegion) -> Bool {
        let world = cluster.world
        let end = world.now + UInt64(3 * options.electionTimeoutMilliseconds) * 1_000_000
        while cluster.leader(of: region.key) == nil, world.now < end, world.failure == nil {
            world.run(until: world.now + 10_000_000)
        }
        return cluster.leader(of: region.key) != nil
    }

    private func coverageInTheEnd() -> String? {
        RangeCoverage.problem(
            cluster.observer.configurations.newest.filter { !$0.isSystem }.map(\.range))
    }

    /// Whoever lost its disk is replaced everywhere, in a while.
    private func fillPlaces() {
        let world = cluster.world
        guard let wiper else { return }
        for _ in 0..<90 where !wiper.isWhole && world.failure == nil {
            world.run(until: world.now + 1_000_000_000)
        }
        if world.failure == nil, !wiper.isWhole {
            world.fail(
                "a node lost its disk, and is not replaced a minute and a half later: "
                    + wiper.standing, region: wiper.openRegion?.rawValue)
        }
    }

    /// The digests of a region's replicas, asked again for two seconds while they stand at different
    /// places: a leader appends for itself, too (compactions), between two answers.
    private func settledDigests(
        _ region: EndRegion
    ) throws(SimulationFailure) -> [Int: RegionDigest] {
        func going() throws(SimulationFailure) -> [Int: RegionDigest] {
            _ = isLed(region)
            let still = standingStill(region.id)
            let holders = holders(region.id)
            return try cluster.digests(of: region.key).filter {
                holders.contains($0.key) && !still.contains($0.key)
            }
        }
        var digests = try going()
        for _ in 0..<20 where Set(digests.values.map(\.applied)).count > 1 {
            try cluster.run(milliseconds: 100)
            digests = try going()
        }
        return digests
    }

    /// The nodes that are up and have a peer of a region: all of its members, but where a new one waits
    /// for what an old one left to be cleared away. Who is none any more may not know it yet.
    private func holders(_ id: RegionID) -> Set<Int> {
        let view = cluster.nodes.lazy.compactMap { $0.lane?.memberView(of: id) }.first
        guard mayMove, let view else {
            return Set(cluster.nodes.filter { !$0.isLost }.map(\.number))
        }
        return Set(
            view.descriptor.peers.compactMap { cluster.network.number(of: $0.node) }
                .filter {
                    !cluster.nodes[$0].isLost && !(cluster.nodes[$0].lane?.isClearing(id) ?? false)
                })
    }

    /// Whether regions may have other members than at their beginning.
    private var mayMove: Bool { members != nil || wiper != nil }

    /// Whether disks lose the last good copy, too.
    private var losesAllCopies: Bool { injector.corruptible.count == options.nodes }

    /// The nodes whose peer of a region cannot go on: what it cannot read, nobody has any more who is up.
    func standingStill(_ id: RegionID) -> [Int] {
        cluster.nodes.filter { node in
            // What waits for another one's replay stands where that does.
            guard let hopes = node.lane?.hopes(of: node.core?.replays(for: id) ?? id) else {
                return false
            }
            return losesAllCopies
                || hopes.allSatisfy { hope in
                    cluster.network.number(of: hope).map { cluster.nodes[$0].isLost } ?? true
                }
        }.map(\.number)
    }

    /// Where no copy is safe, too many peers may be damaged for any to lead.
    private func mayLackLeader(_ id: RegionID) -> Bool {
        losesAllCopies && (lostNodes + standingStill(id).count) * 2 >= options.nodes
    }

    private var lostNodes: Int { cluster.nodes.count(where: \.isLost) }

    /// Reads a key as a client of its own, into the history.
    private func read(_ key: Int) {
        let world = cluster.world
        let call = world.now
        guard let answer = try? cluster.get(keys.name(key)), case .value(let found) = answer else {
            return world.fail(
                "key \(key) cannot be read after the last fault",
                region: UInt64(keys.region(of: key) + 2))
        }
        history.append(
            HistoryOperation(
                client: options.clients, action: .get(key: key), call: call, ret: world.now,
                outcome: .found(found.flatMap { keys.number($0.value, of: key) })))
    }
}
