// A node's part in a recovery from lost quorums: it says how it stands, and does what it is ordered (RULES 74).

import Logging
import Synchronization
package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension NodeCore {
    /// Answers a question of `ukehi recover`: no bytes ask for a survey, others are an order. Either is
    /// answered with a survey, once what was ordered is durable.
    func recover(_ body: Bytes, _ request: ClientRequest) {
        @Sendable func refuse(_ reason: RequestError.Rejection) {
            request.sink.reply(.failed(.rejected(reason)), tag: request.tag)
            request.sink.flush()
        }
        guard !body.isEmpty else { return survey(request) }
        let order: RecoveryOrder
        do throws(DecodeError) {
            order = try RecoveryOrder.decode(body)
        } catch {
            return refuse(.invalid("The order cannot be read: \(error)."))
        }
        surveyLanes { [self] _, standings in
            bootWorker.run { [self] in
                if let reason = fault(of: order, standings) { return refuse(.invalid(reason)) }
                guard order.creates.isEmpty else {
                    return create(order) { [self] reason in
                        if let reason { refuse(.unavailable(reason)) } else { survey(request) }
                    }
                }
                guard order.abandons.isEmpty else {
                    return abandon(order.abandons[...]) { [self] reason in
                        if let reason { refuse(.unavailable(reason)) } else { survey(request) }
                    }
                }
                carryOut(order)
                survey(request)
            }
        }
    }

    /// Peers that hold nothing go, one after the other; `done` gets why one does not.
    private func abandon(
        _ peers: ArraySlice<RecoveryOrder.Abandoned>, _ done: @escaping @Sendable (String?) -> Void
    ) {
        guard let first = peers.first else { return done(nil) }
        lanes[lane(of: first.region)].post(
            .abandon(first) { [self] reason in
                if let reason { done(reason) } else { abandon(peers.dropFirst(), done) }
            })
    }

    /// Why an order is not carried out.
    private func fault(of order: RecoveryOrder, _ standings: [PeerStanding]) -> String? {
        let identity = state.withLock { $0.identity }
        guard let record = identity.record, let node = identity.node,
            record.cluster == order.cluster
        else { return "The order is for another cluster." }
        guard let own = order.registry.node(node), own.standing == .present,
            own.incarnation == identity.incarnation
        else { return "The order has this node among the dead." }
        guard !record.registry.isNewer(than: order.registry) else {
            return "The cluster's nodes have changed since the plan was made. Make it anew."
        }
        if !order.creates.isEmpty, let reason = fault(ofCreating: order, record.registry) {
            return reason
        }
        if !order.abandons.isEmpty, order.registry != record.registry {
            return "The cluster's nodes have changed since the plan was made. Make it anew."
        }
        for abandoned in order.abandons {
            // Who is not here any more has gone already.
            guard let standing = standings.first(where: { $0.region == abandoned.region }),
                standing.peer == abandoned.peer
            else { continue }
            guard standing.isEmpty, !standing.isLeader else {
                return
                    "Region \(abandoned.region.rawValue) has changed since the plan was made. Make "
                    + "it anew."
            }
        }
        for lead in order.leads {
            guard let standing = standings.first(where: { $0.region == lead.region }),
                standing.peer == lead.peer
            else { return "This node has no such peer of region \(lead.region.rawValue)." }
            guard standing.position == (lead.lastTerm, lead.lastIndex), !standing.isDamaged else {
                return
                    "Region \(lead.region.rawValue) has changed since the plan was made. Make it "
                    + "anew."
            }
            guard standing.leader == nil, !standing.isLeader else {
                return "Region \(lead.region.rawValue) has a leader."
            }
        }
        return nil
    }

    /// Durable before anything follows from it. On the boot worker.
    private func carryOut(_ order: RecoveryOrder) {
        adopt(order.registry)
        var identity = state.withLock { $0.identity }
        guard identity.record?.registry == order.registry, !order.leads.isEmpty else { return }
        let generation = order.registry.generation
        let forced = order.leads.map {
            ForcedPeer(region: $0.region, peer: $0.peer, generation: generation)
        }
        identity.forced.removeAll { old in forced.contains { $0.region == old.region } }
        identity.forced += forced
        identity.forced.sort { $0.region < $1.region }
        #if BugBank
            if PlantedBug.recoveryNotDurable.isPlanted {
                identity.forced = []
                return force(forced, order.registry)
            }
        #endif
        guard keep(identity) else { return }
        force(forced, order.registry)
    }

    private func force(_ forced: [ForcedPeer], _ registry: NodeRegistry) {
        let absent = registry.absent
        for peer in forced {
            lanes[lane(of: peer.region)].post(.forced(peer, without: absent))
        }
    }

    private func keep(_ identity: Identity) -> Bool {
        do throws(NodeError) {
            try identity.store(environment.fileSystem, directory: directory)
        } catch {
            failed(error)
            return false
        }
        state.withLock { $0.identity = identity }
        return true
    }

    package func recovered(_ region: RegionID, peer: PeerID) {
        bootWorker.run { [self] in
            var identity = state.withLock { $0.identity }
            guard identity.forced.contains(where: { $0.region == region && $0.peer == peer }) else {
                return
            }
            identity.forced.removeAll { $0.region == region && $0.peer == peer }
            if keep(identity) {
                logger.notice(
                    "a region has members that are all there again",
                    metadata: ["region": "\(region)"])
            }
        }
    }

    // MARK: Surveys

    private func survey(_ request: ClientRequest) {
        surveyLanes { [self] heard, standings in
            readWorker.run { [self] in
                let standings = standings.map { lookedInto($0) }
                let survey: RecoverySurvey? = state.withLock { state in
                    guard let record = state.identity.record, let node = state.identity.node else {
                        return nil
                    }
                    return RecoverySurvey(
                        cluster: record.cluster, node: node, registry: record.registry,
                        heard: heard, standings: standings,
                        elsewhere: state.hearsay)
                }
                if let survey {
                    request.sink.reply(.recovery(survey.encoded()), tag: request.tag)
                } else {
                    let reason = "The node is not part of a cluster yet."
                    request.sink.reply(
                        .failed(.rejected(.unavailable(reason))), tag: request.tag)
                }
                request.sink.flush()
            }
        }
    }

    /// Whether changes of members wait in the log: whoever has them may not be the one who knows the members.
    private func lookedInto(_ standing: PeerStanding) -> PeerStanding {
        var standing = standing
        guard standing.lastIndex > standing.applied, !standing.hasChanges else { return standing }
        do throws(WALError) {
            let entries = try log.entries(
                region: standing.region, from: standing.applied + 1, to: standing.lastIndex + 1,
                maxBytes: .max)
            standing.hasChanges = entries.contains { $0.kind != .normal }
        } catch {
            // Not durable yet, or not to be read: as if there were one.
            standing.hasChanges = true
        }
        return standing
    }

    /// Asks one lane after the other.
    private func surveyLanes(
        _ done: @escaping @Sendable (_ heard: [NodeID], _ standings: [PeerStanding]) -> Void
    ) {
        @Sendable func ask(_ index: Int, _ heard: Set<NodeID>, _ standings: [PeerStanding]) {
            guard index < lanes.count else {
                return done(heard.sorted(), standings.sorted { $0.region < $1.region })
            }
            lanes[index].post(
                .survey { laneHeard, laneStandings in
                    ask(index + 1, heard.union(laneHeard), standings + laneStandings)
                })
        }
        ask(0, [], [])
    }
}

extension NodeRegistry {
    /// Nodes that are none any more: whatever they held is not to be counted on.
    package var absent: Set<NodeID> {
        Set(nodes.filter { $0.standing != .present }.map(\.node))
    }
}
