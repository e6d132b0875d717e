// Aims for regions' members, driven by their leaders, and what is asked about members.
//
//   set ──▶ the aim, in the leader's memory ──▶ each second: the next step (MemberEngine.swift)
//
// An aim ends with its leader's term of office: whoever wants it asks again, and it goes on from what was
// done. Ids of new peers come from the system region's allocator, before they are proposed (RULES 17).

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

/// What a region's members are to be, and how that goes.
struct MemberAim {
    var wanted: Set<NodeID>
    var progress = MemberReport.Progress.working
    var reason = ""
    /// The newest ones.
    var steps: [String] = []
    /// An id for the next new peer, once one was given.
    var newPeer: PeerID?
    var isAskingForID = false
    /// When it was asked for last, in ticks of the lane: an answer may be lost.
    var askedTick: UInt64 = 0
    /// The entry that tells most members of the last change, and which configuration that was.
    var confirmation: (version: UInt64, index: LogIndex)?

    static let maxSteps = 64

    mutating func did(_ step: String) {
        progress = .working
        reason = ""
        if steps.count == Self.maxSteps { steps.removeFirst() }
        steps.append(step)
    }
}

extension Lane {
    // MARK: Questions

    /// Answers what is asked about a region's members.
    func answer(_ ask: MemberRequest, of id: RegionID, _ request: ClientRequest) {
        func refuse(_ reason: RequestError.Rejection) {
            reply(.failed(.rejected(reason)), request.sink, request.tag)
        }
        guard let region = region(withKeys: id) else {
            return refuse(
                host?.elsewhere(id) ?? .unavailable("The node has no peer of region \(id)."))
        }
        guard region.isLeader, region.raft.isLeader else {
            return reply(.failed(region.notLeader), request.sink, request.tag)
        }
        switch ask {
        case .report: break
        case .plan(let nodes):
            if let reason = unknown(nodes) { return refuse(reason) }
            let wanted = Set(nodes)
            let plan = MemberEngine.plan(memberView(of: region), wanted: wanted)
            var report = report(on: region)
            report.wanted = wanted.sorted()
            report.steps = plan.steps
            report.progress =
                plan.refusal == nil
                ? .done
                : plan.refusal?.passes == true
                    ? .waiting : .refused
            report.reason = plan.refusal?.description ?? ""
            return reply(.members(report), request.sink, request.tag)
        case .set(let nodes):
            if let reason = unknown(nodes) { return refuse(reason) }
            let wanted = Set(nodes)
            if region.aim?.wanted != wanted || region.aim?.progress == .refused {
                region.aim = MemberAim(wanted: wanted)
            }
            drive(region)
        case .transfer(let node):
            guard let heir = region.descriptor.peer(on: node) else {
                return refuse(.invalid("\(node) has no peer of region \(id). Add one first."))
            }
            guard heir.roles.contains(.voter) else {
                return refuse(.invalid("The peer on \(node) does not vote. It cannot lead."))
            }
            guard heir.peer == region.peer || memberView(of: region).isReady(heir.peer) else {
                return refuse(
                    .invalid(
                        "The peer on \(node) does not answer or has not caught up. See to its "
                            + "node, or choose another one."))
            }
            if heir.peer != region.peer { transferLeadership(of: id, to: heir.peer) }
        }
        reply(.members(report(on: region)), request.sink, request.tag)
    }

    /// Why these cannot be members; nil: all of them are nodes of the cluster.
    private func unknown(_ nodes: [NodeID]) -> RequestError.Rejection? {
        guard !nodes.isEmpty else { return .invalid(ChangeRefusal.noVoters.description) }
        guard let known = host?.knownNodes(),
            let stranger = nodes.first(where: { !known.contains($0) })
        else { return nil }
        let reason =
            "The cluster has no node \(stranger). It has "
            + known.map { "\($0)" }.joined(separator: ", ") + "."
        // Ids ascend: this one may have joined and not be known here yet.
        return known.last.map { stranger > $0 } ?? true ? .unavailable(reason) : .invalid(reason)
    }

    private func report(on region: Region) -> MemberReport {
        let view = memberView(of: region)
        return MemberReport(
            region: region.id, epoch: region.descriptor.epoch, leader: node ?? NodeID(0),
            lastIndex: view.lastIndex,
            members: region.descriptor.peers.map { member in
                let known = view.peer(member.peer)
                return MemberInfo(
                    peer: member.peer, node: member.node,
                    roles: MemberInfo.Roles(
                        rawValue: UInt8(truncatingIfNeeded: member.roles.rawValue)),
                    match: known?.match ?? .zero, isActive: known?.isActive ?? false)
            },
            wanted: region.aim?.wanted.sorted() ?? [], progress: region.aim?.progress ?? .none,
            reason: region.aim?.reason ?? "", steps: region.aim?.steps ?? [])
    }

    // MARK: Driving

    /// Takes the next step to the region's aim, if it has one and leads.
    func drive(_ region: Region) {
        guard let aim = region.aim, region.isLeader, region.raft.isLeader,
            aim.progress != .refused,
            !aim.isAskingForID || ticks >= aim.askedTick + Limits.ticksPerInquiry
        else { return }
        let view = memberView(of: region)
        switch MemberEngine.next(view, wanted: aim.wanted) {
        case .done: confirm(region)
        case .refused(let refusal):
            region.aim?.progress = .refused
            region.aim?.reason = refusal.description
        case .wait(let reason):
            region.aim?.progress = .waiting
            region.aim?.reason = reason.description
        case .transfer(let peer):
            region.aim?.did("hand leadership to \(peer)")
            transferLeadership(of: region.id, to: peer)
        case .addLearner(let target): addLearner(on: target, region, view)
        case .propose(let change): propose(change, region, view)
        }
    }

    /// The members are what they are to be; that is said once the region could do without any of its
    /// minorities, this leader included.
    ///
    /// Members go by the old configuration until they know that the change is committed, and the leader is
    /// the first to know: with it gone for good, two of three would wait for the vote of the only other
    /// member that there was before (simulated seed 20003779 of `nodes`). An entry that is proposed now is
    /// sent with that knowledge, and every member makes both durable together: once it is committed, most
    /// of them have them.
    private func confirm(_ region: Region) {
        let version = region.descriptor.epoch.confVersion
        if let last = region.aim?.confirmation, last.version == version {
            guard region.applied >= last.index else { return }
            region.aim?.progress = .done
            region.aim?.reason = ""
            return
        }
        region.aim?.progress = .working
        region.aim?.reason = ""
        guard let position = try? region.raft.propose(Bytes()) else { return }
        remember(
            Proposal(
                index: position.index, term: position.term,
                deadline: MonotonicTime(nanoseconds: .max), waiters: []), region)
        region.aim?.confirmation = (version, position.index)
        markDirty(region)
    }

    private func addLearner(on target: NodeID, _ region: Region, _ view: MemberView) {
        if let peer = region.aim?.newPeer {
            region.aim?.newPeer = nil
            // An answer that comes late may be lower than what was given since: another one is asked for.
            if region.descriptor.peers.allSatisfy({ $0.peer < peer }) {
                return propose(MemberChange([.addLearner(peer, on: target)]), region, view)
            }
        }
        region.aim?.isAskingForID = true
        region.aim?.askedTick = ticks
        region.aim?.progress = .working
        let id = region.id
        let lane = self
        host?.allocate(1, outOf: nil) { first in lane.post(.allocated(id, first.map { PeerID($0) }))
        }
    }

    private func propose(_ change: MemberChange, _ region: Region, _ view: MemberView) {
        do throws(ChangeRefusal) {
            try propose(change, in: region.id)
            region.aim?.did(MemberEngine.words(change, view))
        } catch {
            region.aim?.progress = error.passes ? .waiting : .refused
            region.aim?.reason = error.description
        }
    }

    /// An id for a new peer was given, or could not be.
    func allocated(_ id: RegionID, _ peer: PeerID?) {
        guard let region = regions[id], region.aim != nil else { return }
        region.aim?.isAskingForID = false
        guard let peer else {
            region.aim?.progress = .waiting
            region.aim?.reason =
                "No id was to be had for the new peer: the system region has no leader that answers."
            return
        }
        region.aim?.newPeer = peer
        drive(region)
    }
}
