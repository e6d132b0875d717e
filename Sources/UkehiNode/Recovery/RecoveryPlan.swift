// From what survivors say to what is done about lost quorums (RULES 74). Pure: surveys in, a plan out; the
// same surveys give the same plan and the same fingerprint.
//
//   region   most of its voters survive                      -> nothing is done
//            not enough of them do, but some peer            -> whoever has the greatest (last term, last
//                                                               index) leads the survivors
//            no peer that ever had anything                  -> lost, and its keys are nobody's: they become
//                                                               empty regions, where that is wanted, too
//
// By Raft's log, never by what is applied: what a majority has acknowledged is in the logs of that majority,
// and the greatest log of those that are left has all of it that is left.

package import UkehiBase
package import UkehiRaft
import UkehiState

/// What becomes of one region.
package struct RegionRecovery: Hashable, Sendable {
    package enum Verdict: Hashable, Sendable {
        /// Its survivors are enough.
        case healthy
        /// This peer leads the survivors.
        case leads(PeerID, on: NodeID)
        /// Nobody has it.
        case lost
    }
    package var region: RegionID
    package var range: KeyRange
    package var verdict: Verdict
    /// Nodes with a peer of it that survive, and that do not, ascending.
    package var survivors: [NodeID]
    package var gone: [NodeID]
    /// Where the chosen log ends.
    package var lastTerm: Term
    package var lastIndex: LogIndex
    /// The last entry that some survivor knows to be committed.
    package var committed: LogIndex
    /// Entries behind it that survive: nobody here knows whether they were acknowledged; they will be
    /// committed.
    package var undecided: UInt64 { lastIndex > committed ? lastIndex - committed : 0 }
    /// Whether those that are gone may have acknowledged entries that nobody has any more. How many cannot be
    /// known here.
    package var mayLose: Bool
}

/// What is done about lost quorums.
package struct RecoveryPlan: Hashable, Sendable {
    package var cluster: ClusterID
    /// Declared dead by it, ascending.
    package var dead: [NodeID]
    /// Who carries it out, ascending.
    package var survivors: [NodeID]
    /// As it will be.
    package var registry: NodeRegistry
    /// Ascending.
    package var regions: [RegionRecovery]
    /// Ranges that no region of the survivors has, ascending: what was lost with the dead.
    package var missing: [RecoveryOrder.Creation]
    /// By survivor, peers of lost regions that never got anything: in the way of what is made anew.
    package var abandons: [NodeID: [RecoveryOrder.Abandoned]]
    /// Why it must not be carried out; empty: it may be.
    package var refusals: [String]

    /// Regions that get a leader by it.
    package var forced: [RegionRecovery] {
        regions.filter { if case .leads = $0.verdict { true } else { false } }
    }
    package var lost: [RegionRecovery] { regions.filter { $0.verdict == .lost } }

    /// Tells this plan from every other: who confirms it confirms this one.
    package var fingerprint: String {
        var writer = ByteWriter(chunkCapacity: 1024)
        writer.append(cluster.high)
        writer.append(cluster.low)
        for nodes in [dead, survivors] {
            writer.append(UInt32(nodes.count))
            for node in nodes { writer.append(node.rawValue) }
        }
        registry.encode(into: &writer)
        for region in forced {
            writer.append(region.region.rawValue)
            if case .leads(let peer, _) = region.verdict { writer.append(peer.rawValue) }
            writer.append(region.lastTerm.rawValue)
            writer.append(region.lastIndex.rawValue)
        }
        for creation in missing {
            writer.append(creation.range.lower)
            writer.append(UInt32.max)
            writer.append(creation.range.upper)
        }
        let bytes = writer.take()
        let text = String(CRC32C.checksum(bytes), radix: 16)
        return String(repeating: "0", count: 8 - text.count) + text
    }

    /// What `node` is ordered to do in the second phase.
    package func order(for node: NodeID) -> RecoveryOrder {
        let leads = forced.compactMap { region -> RecoveryOrder.Lead? in
            guard case .leads(let peer, node) = region.verdict else { return nil }
            return RecoveryOrder.Lead(
                region: region.region, peer: peer, lastTerm: region.lastTerm,
                lastIndex: region.lastIndex)
        }
        return RecoveryOrder(cluster: cluster, registry: registry, leads: leads)
    }

    /// What a survivor is ordered to do before ranges are created: peers that hold nothing of them go.
    package func clearance(for node: NodeID) -> RecoveryOrder {
        RecoveryOrder(cluster: cluster, registry: registry, abandons: abandons[node] ?? [])
    }

    /// What the leader of the system region is ordered to do in the last phase, where it is wanted.
    package var creation: RecoveryOrder {
        RecoveryOrder(cluster: cluster, registry: registry, creates: missing)
    }

    /// What every survivor is ordered to do in the first phase: to know who is dead.
    package var preparation: RecoveryOrder {
        RecoveryOrder(cluster: cluster, registry: registry)
    }
}

extension RecoveryPlan {
    /// The plan for these dead, from what everybody else says.
    ///
    /// - Parameters:
    ///   - dead: As the operator says.
    ///   - surveys: At least one; of every node that is not dead, or the plan refuses itself.
    package static func make(dead: Set<NodeID>, surveys: [RecoverySurvey]) -> RecoveryPlan {
        invariant(!surveys.isEmpty, "a plan needs a survivor")
        let surveys = surveys.sorted { $0.node < $1.node }
        let newest = surveys.dropFirst().reduce(surveys[0].registry) {
            $1.registry.isNewer(than: $0) ? $1.registry : $0
        }
        let known = dead.filter { newest.node($0) != nil }
        // Carried out once more, for what came to be lost meanwhile or was not finished.
        let isDeclared = known.allSatisfy { newest.node($0)?.standing != .present }
        var plan = RecoveryPlan(
            cluster: surveys[0].cluster, dead: dead.sorted(), survivors: surveys.map(\.node),
            registry: isDeclared ? newest : newest.declaringDead(known), regions: [],
            missing: [], abandons: [:], refusals: [])
        plan.refusals = refusals(dead, surveys, newest)
        let present = Set(plan.registry.present.map(\.node)).intersection(plan.survivors)
        let regions = Set(
            surveys.flatMap { $0.standings.map(\.region) + $0.elsewhere.map(\.region) })
        for region in regions.sorted() {
            let own = surveys.compactMap { survey in
                survey.standings.first { $0.region == region }.map { (survey.node, $0) }
            }
            plan.add(region, own, surveys.flatMap(\.elsewhere), present)
        }
        plan.findMissing(surveys)
        plan.findAbandoned(surveys)
        return plan
    }

    /// What is left of the key space without the regions that somebody has.
    private mutating func findMissing(_ surveys: [RecoverySurvey]) {
        let known = surveys.flatMap { $0.standings.map(\.descriptor) + $0.elsewhere }
            .filter { !$0.isSystem }
        let held = held(surveys).map(\.range)
        // Without any region there was no key space yet.
        guard !known.isEmpty else { return }
        let version = (known.map(\.epoch.version).max() ?? 0) + 1
        missing = KeyRange.all.subtracting(held).map {
            RecoveryOrder.Creation(range: $0, version: version)
        }
    }

    /// User regions of which some survivor has something.
    private func held(_ surveys: [RecoverySurvey]) -> [RegionDescriptor] {
        let lost = Set(lost.map(\.region))
        return surveys.flatMap { $0.standings.map(\.descriptor) }.filter {
            !$0.isSystem && !lost.contains($0.region)
        }
    }

    private mutating func findAbandoned(_ surveys: [RecoverySurvey]) {
        let lost = Set(lost.map(\.region))
        let held = held(surveys)
        for survey in surveys {
            // What is empty here may yet come out of a region that somebody has, by a division in its log: one of a
            // lower version, since those that come out of a division are all of the same.
            let empty = survey.standings.filter { standing in
                lost.contains(standing.region) && standing.isEmpty
                    && !held.contains {
                        $0.range.overlaps(standing.descriptor.range)
                            && $0.epoch.version < standing.descriptor.epoch.version
                    }
            }
            guard !empty.isEmpty else { continue }
            abandons[survey.node] = empty.map {
                RecoveryOrder.Abandoned(region: $0.region, peer: $0.peer)
            }
        }
    }

    private static func refusals(
        _ dead: Set<NodeID>, _ surveys: [RecoverySurvey], _ registry: NodeRegistry
    ) -> [String] {
        var refusals: [String] = []
        func name(_ node: NodeID) -> String { registry.node(node)?.name ?? "\(node)" }
        for node in dead.sorted() where registry.node(node) == nil {
            refusals.append("The cluster has no node \(node).")
        }
        let asked = Set(surveys.map(\.node))
        for node in registry.present where !dead.contains(node.node) && !asked.contains(node.node) {
            refusals.append(
                "\(node.name) does not answer and is not named as dead. Start it, or name it, too.")
        }
        for survey in surveys {
            if dead.contains(survey.node) {
                refusals.append("\(name(survey.node)) answers: it is not dead.")
            }
            for node in survey.heard where dead.contains(node) {
                refusals.append(
                    "\(name(node)) spoke to \(name(survey.node)) a moment ago. If it is dead, ask "
                        + "again in a few seconds.")
            }
            if survey.cluster != surveys[0].cluster {
                refusals.append("\(survey.node) is of another cluster.")
            }
        }
        return refusals
    }

    private mutating func add(
        _ region: RegionID, _ own: [(node: NodeID, standing: PeerStanding)],
        _ elsewhere: [RegionDescriptor], _ present: Set<NodeID>
    ) {
        // The newest configuration that a survivor knows, with a peer or without: one that was away while it was
        // removed knows an older one.
        let descriptors =
            own.map(\.standing.descriptor) + elsewhere.filter { $0.region == region }
        guard
            let descriptor = descriptors.max(by: { $0.epoch.confVersion < $1.epoch.confVersion })
        else { return }
        let holders = own.filter { entry in
            descriptor.peer(on: entry.node)?.peer == entry.standing.peer
        }
        let alive = Set(holders.map(\.node)).intersection(present)
        var entry = RegionRecovery(
            region: region, range: descriptor.range, verdict: .healthy,
            survivors: holders.map(\.node),
            gone: descriptor.peers.map(\.node).filter { !alive.contains($0) }.sorted(),
            lastTerm: .zero, lastIndex: .zero,
            committed: holders.map(\.standing.committed).max() ?? .zero, mayLose: false)
        let chosen = holders.max { left, right in
            func rank(_ entry: (node: NodeID, standing: PeerStanding)) -> Int {
                descriptor.member(entry.standing.peer)?.roles.contains(.voter) ?? false ? 1 : 0
            }
            guard left.standing.position == right.standing.position else {
                return left.standing.position < right.standing.position
            }
            return rank(left) == rank(right) ? left.node > right.node : rank(left) < rank(right)
        }
        if let chosen {
            entry.lastTerm = chosen.standing.lastTerm
            entry.lastIndex = chosen.standing.lastIndex
        }
        defer { regions.append(entry) }
        if descriptor.hasQuorum(of: alive) { return }
        guard let chosen, chosen.standing.lastIndex > .zero else {
            entry.verdict = .lost
            entry.mayLose = true
            guard descriptor.isSystem else { return }
            refusals.append(
                "The system region: none of the survivors has any of it. Without it there is no cluster: "
                    + "bring one of \(entry.gone.map { "\($0)" }.joined(separator: ", ")) back, or "
                    + "restore a backup into a new cluster.")
            return
        }
        entry.verdict = .leads(chosen.standing.peer, on: chosen.node)
        entry.mayLose =
            descriptor.hasQuorum(of: Set(entry.gone))
            || holders.contains { $0.standing.hasChanges }
        // By its own log it would wait for the votes of peers that have gone from their nodes since.
        for member in chosen.standing.descriptor.peers
        where member.isVoter && present.contains(member.node)
            && !own.contains(where: { $0.standing.peer == member.peer })
        {
            refusals.append(
                "Region \(region.rawValue): \(chosen.standing.peer) on \(chosen.node) would lead, and does not know "
                    + "yet that \(member.peer) on \(member.node) is no member any more. It cannot go on alone: bring "
                    + "one of \(entry.gone.map { "\($0)" }.joined(separator: ", ")) back.")
        }
        for (node, standing) in holders {
            if standing.isDamaged {
                refusals.append(
                    "Region \(region.rawValue): the log on \(node) has entries that cannot be read. "
                        + "See `ukehi wal verify`; a recovery could lose more than has to be lost.")
            }
            if standing.isLeader || standing.leader != nil {
                refusals.append(
                    "Region \(region.rawValue): \(node) knows a leader"
                        + (standing.leader.map { ", \($0)" } ?? "")
                        + ". Ask again when an election timeout has passed.")
            }
        }
    }
}

extension RegionDescriptor {
    /// Whether the voters on `nodes` decide, in both halves of a joint configuration.
    package func hasQuorum(of nodes: Set<NodeID>) -> Bool {
        [PeerRoles.voter, .outgoingVoter].allSatisfy { half in
            let voters = peers.filter { $0.roles.contains(half) }
            let alive = voters.count { nodes.contains($0.node) }
            return voters.isEmpty || alive > voters.count / 2
        }
    }

    /// The membership as a peer counts it that leads without those on absent nodes: it votes itself, and in
    /// a half of which nobody is left it stands for all of them (RULES 74).
    package func configuration(
        without absent: Set<NodeID>, led peer: PeerID
    ) -> ConfigurationState {
        let gone = Set(peers.filter { absent.contains($0.node) }.map(\.peer))
        var state = configuration
        func left(_ half: [PeerID]) -> [PeerID] { half.filter { !gone.contains($0) } }
        state.voters = left(state.voters)
        // Whoever has the greatest log leads, whatever it was before.
        if !state.voters.contains(peer) { state.voters.append(peer) }
        if !state.votersOutgoing.isEmpty {
            state.votersOutgoing = left(state.votersOutgoing)
            if state.votersOutgoing.isEmpty { state.votersOutgoing = [peer] }
        }
        let voters = Set(state.voters + state.votersOutgoing)
        state.learners.removeAll { gone.contains($0) || voters.contains($0) }
        state.learnersNext.removeAll {
            gone.contains($0) || !state.votersOutgoing.contains($0) || state.voters.contains($0)
        }
        return state
    }

    /// The change that takes those on absent nodes out of the region; nil: there are none. What survives of the
    /// log may end before whoever leads came to be a member: then that comes with it.
    package func removing(
        _ absent: Set<NodeID>, led peer: PeerID, on node: NodeID
    ) -> ConfigurationChange? {
        let gone = peers.filter { absent.contains($0.node) }
        let chosen = member(peer)
        guard !gone.isEmpty || chosen == nil else { return nil }
        var steps: [ConfigurationChange.Step] = []
        if !(chosen?.roles.contains(.voter) ?? false) { steps.append(.init(.addVoter, peer)) }
        steps += gone.map { .init(.remove, $0.peer) }
        let context = MemberContext(
            confVersion: epoch.confVersion,
            places: chosen == nil ? [.init(peer: peer, node: node)] : [])
        return ConfigurationChange(steps, context: context.encoded())
    }
}
