// What a run holds its cluster to beside Raft's properties (ClusterObserver.swift), when, and the
// verdict at the end.

import UkehiBase
import UkehiNode
import UkehiState
import UkehiWAL

extension SimulationRun {
    /// Of so many ends of processes, one is followed by an audit of the disk.
    private static let auditsOneIn = 6

    func startCheckers() {
        cluster.observer.onCommitted = { [unowned self] region, entry in
            guard region != .system else { return }
            if let problem = outcomes.committed(entry, in: region) { fail(problem, region) }
            sessions.committed(entry, in: region)
        }
        for node in cluster.nodes {
            node.onCarriedOut = { [unowned self] region, index, write in
                if let problem = sessions.carriedOut(write, in: region, at: index) {
                    fail(problem, region)
                }
            }
            node.onEnded = { [weak self] node in
                guard let self, auditRandom.oneIn(Self.auditsOneIn) else { return }
                let mayRefuse = injector.corruptible.contains(node.number)
                if let problem = LogAuditor.problem(on: node.disk, mayRefuse: mayRefuse) {
                    fail("the disk of node-\(node.number + 1): \(problem)", nil)
                }
            }
        }
        lookAgain()
    }

    private func fail(_ reason: String, _ region: RegionID?) {
        cluster.world.fail(
            region.map { "\($0): \(reason)" } ?? reason, region: region?.rawValue)
    }

    // MARK: What clients were told

    func answered(_ operation: HistoryOperation) {
        guard operation.outcome != .unknown else { return }
        if let write = operation.sessionWrite {
            if let problem = sessions.answered(write, isVoid: isVoid) { fail(problem, nil) }
            return
        }
        guard let value = operation.action.written else { return }
        if let problem = outcomes.answered(value, isVoid: isVoid) { fail(problem, nil) }
    }

    func rejected(_ action: HistoryOperation.Action) {
        guard let value = action.written else { return }
        if let problem = outcomes.rejected(value, isVoid: isVoid) { fail(problem, nil) }
    }

    func rejected(_ write: SessionWrite, isExpired: Bool) {
        if let problem = sessions.rejected(write, isExpired: isExpired, isVoid: isVoid) {
            fail(problem, nil)
        }
    }

    private func isVoid(_ place: OutcomeChecker.Place) -> Bool {
        let version = cluster.observer.configurations.version(of: place.region, at: place.index)
        return version != place.version
    }

    // MARK: At every moment

    /// Looks at replicas and ranges each simulated second.
    private func lookAgain() {
        cluster.world.schedule(after: 1_000_000_000) { [unowned self] in
            look()
            lookAgain()
        }
    }

    private func look() {
        for node in cluster.nodes where !node.isRetired {
            guard let core = node.core, let topology = core.topology, !topology.regions.isEmpty
            else {
                continue
            }
            // What a node has of others' regions may be from before they were divided.
            let problem =
                dividesRegions
                ? RangeCoverage.overlap(topology.regions.map(\.range))
                : RangeCoverage.problem(topology.regions.map(\.range))
            if let problem {
                fail("as node-\(node.number + 1) has it, \(problem)", nil)
            }
            for region in topology.regions {
                guard node.lane?.holds(region.region) ?? false || !dividesRegions,
                    let digest = try? core.applier.digest(region: region.region)
                else { continue }
                // Before anything is applied a new peer has what it was introduced with.
                if digest.applied > .zero, let problem = digests.take(digest, node: node.number) {
                    fail(problem, region.region)
                }
            }
        }
    }

    // MARK: In the end

    /// Every running log against its disk, and every disk against itself.
    func lookClosely() {
        look()
        for node in cluster.nodes {
            guard let core = node.core, let lane = node.lane else { continue }
            let mayRefuse = injector.corruptible.contains(node.number)
            var peers: [PeerStatus] = []
            lane.forEachPeer { peer, _ in peers.append(peer) }
            var problem = LogAuditor.problem(on: node.disk, mayRefuse: mayRefuse)
            // Durable already, and the lane not told yet: no difference to speak of (seed 201801).
            if problem == nil, !lane.awaitsLog {
                problem = LogAuditor.problem(of: core.log, peers: peers, on: node.disk)
            }
            if let problem { fail("the log of node-\(node.number + 1): \(problem)", nil) }
        }
    }

    /// What every node is told of where the regions are is, in a while, what they are (RULES 63).
    func mapInTheEnd() {
        let world = cluster.world
        var truth: [RegionDescriptor] {
            cluster.observer.configurations.newest.filter { !$0.isSystem }
                .sorted { $0.range.lower < $1.range.lower }
        }
        /// A node whose map is another one.
        func astray() -> (node: Int, map: [RegionDescriptor])? {
            let truth = truth
            for node in cluster.nodes where !node.isRetired && !node.isLost {
                guard let core = node.core, core.nodeID != nil else { continue }
                // The one that it is told, and the one in the system region.
                let recorded =
                    standingStill(.system).contains(node.number) ? nil : core.recordedRegions
                for map in [core.mappedRegions, recorded].compactMap({ $0 })
                where map.map(\.region) != truth.map(\.region)
                    || map.map(\.range) != truth.map(\.range)
                    || map.map(\.epoch) != truth.map(\.epoch)
                {
                    return (node.number, map)
                }
            }
            return nil
        }
        for _ in 0..<30 where astray() != nil && world.failure == nil {
            world.run(until: world.now + 500_000_000)
        }
        guard world.failure == nil, let (node, map) = astray() else { return }
        let regions = truth
        func words(_ regions: [RegionDescriptor], but others: [RegionDescriptor]) -> String {
            regions.filter { region in
                !others.contains {
                    $0.region == region.region && $0.epoch == region.epoch
                        && $0.range == region.range
                }
            }.map { "\($0.region) \($0.range) \($0.epoch)" }.joined(separator: ", ")
        }
        fail(
            "the map of regions that node-\(node + 1) has is another one: its [\(words(map, but: regions))], theirs "
                + "[\(words(regions, but: map))]", nil)
    }

    /// What clients saw, as a whole.
    func judge() {
        // Of a region that lost entries, as its plan said that it may, clients may have seen anything.
        let history = history.filter {
            !excused.contains(RegionID(UInt64(keys.region(of: firstKey($0.action)) + 2)))
        }
        if let problem = AcknowledgedWrites.problem(history) { return fail(problem, nil) }
        if let problem = Versions.problem(history) { return fail(problem, nil) }
        for region in keys.ranges.indices {
            let id = RegionID(UInt64(region + 2))
            let own = history.filter { keys.region(of: firstKey($0.action)) == region }
            switch Linearizability.check(own, keys: keys.keys(of: region)) {
            case .linearizable: continue
            case .undecided: undecided += 1
            case .violation(let reason):
                return fail("the history is not linearizable: \(reason)", id)
            }
        }
    }
}
