// Roles and clocks: who campaigns when, and what each change of role starts over (Raft §5.2; thesis
// §9.6 for the pre-vote).

import UkehiBase

/// What a campaign is for.
enum Campaign {
    /// Asks whether an election could be won, at the next term but without entering it.
    case preElection
    case election
    /// The leader asked us to take over.
    case transfer
}

extension RaftCore {
    // MARK: Roles

    /// What every change of role starts over.
    mutating func reset(term newTerm: Term) {
        if term != newTerm {
            term = newTerm
            vote = .none
            supportedUntil = 0
        }
        leader = .none
        electionElapsed = 0
        heartbeatElapsed = 0
        resetElectionTimeout()
        tracker.peers.removeAll()
        uncommittedBytes = 0
        heldOffice = nil
    }

    mutating func becomeFollower(term: Term, leader: PeerID) {
        reset(term: term)
        self.leader = leader
        role = .follower
    }

    private mutating func becomeCandidate() {
        invariant(role != .leader, "a leader can't become a candidate")
        reset(term: Term(term.rawValue + 1))
        vote = id
        role = .candidate
    }

    private mutating func becomePreCandidate() {
        invariant(role != .leader, "a leader can't become a pre-candidate")
        // Neither term nor vote nor clock change: nothing is risked by asking.
        heldOffice = nil
        leader = .none
        role = .preCandidate
        // Whoever did not get through in its turn tries again at any time.
        if settings.flags.contains(.campaignsInTurn) { resetElectionTimeout() }
    }

    mutating func becomeLeader() {
        invariant(role != .follower, "a follower can't become the leader")
        reset(term: term)
        leader = id
        role = .leader
        tracker.start(
            configuration, leader: id, lastIndex: log.lastIndex, window: emptyWindow)
        if let own = tracker.slot(of: id) {
            tracker.peers[own].becomeReplicate()
            tracker.peers[own].recentActive = true
        }
        // There may be a membership change in the tail. Waiting for all of it is cheaper than looking.
        office.pendingChangeIndex = log.lastIndex
        // Only an entry of the own term can be committed by counting (§5.4.2), so there is one.
        appendAsLeader(kind: .normal, data: Bytes())
    }

    /// Leads the term that every member began in with a vote for this peer: nobody else can win it.
    mutating func leadFirstTerm() {
        invariant(
            role == .follower && vote == id && configuration.isVoter(id)
                && log.lastIndex == log.committed && log.lastIndex == beginsAt,
            "\(id) leads term \(term) without having been voted for at the beginning")
        role = .candidate
        becomeLeader()
        broadcastAppend()
    }

    mutating func resetElectionTimeout() {
        randomizedElectionTimeout =
            settings.electionTicks + jitter.next(below: settings.jitterTicks)
    }

    /// Gives each voter that has lost its leader a time of its own, by an order that differs from term to
    /// term and from group to group: two survivors that campaign within one message's way of each other
    /// would each vote for itself, and wait for another election timeout.
    ///
    /// Slots are two ticks apart where there is room, one where not: clocks tick at any time.
    private mutating func takeTurn() {
        guard settings.flags.contains(.campaignsInTurn), leader != .none else { return }
        let own = JitterGenerator.order(of: id, in: term)
        var (others, before): (Int32, Int32) = (0, 0)
        for voter in configuration.allVoters.ids where voter != id && voter != leader {
            others += 1
            if JitterGenerator.order(of: voter, in: term) < own { before += 1 }
        }
        // Not the first slot of all: another voter's vote lease may end one tick later than this one's.
        let spacing = min(2, (settings.jitterTicks - 1) / (others + 1))
        if spacing > 0 {
            randomizedElectionTimeout = settings.electionTicks + 1 + before * spacing
        }
    }

    // MARK: Clocks

    mutating func tick() {
        now &+= 1
        if role == .leader { tickLeader() } else { tickElection() }
    }

    private mutating func tickElection() {
        if supportedUntil != 0 {
            if isSupporting { return }
            endSupport()
        }
        electionElapsed += 1
        if electionElapsed == settings.electionTicks { takeTurn() }
        if electionElapsed >= randomizedElectionTimeout, isPromotable {
            if holdsCampaigns {
                // It has lost its leader all the same, and may vote for another one.
                electionElapsed = Int32(settings.electionTicks)
                return
            }
            electionElapsed = 0
            // Nobody was asked yet. Another term would be one more thing to write, behind this one.
            if awaitsOwnVote { return }
            campaign()
            if role == .follower, settings.flags.contains(.campaignsInTurn) {
                // It may not yet. Without a new promise to a leader that is gone, which would hold up the next
                // one in turn, it tries again at any time.
                electionElapsed = settings.electionTicks
                resetElectionTimeout()
            }
        } else if electionElapsed > 1 << 30 {
            electionElapsed = 1 << 30
        }
    }

    private mutating func tickLeader() {
        heartbeatElapsed += 1
        electionElapsed += 1
        if electionElapsed >= settings.electionTicks {
            electionElapsed = 0
            if settings.flags.contains(.checkQuorum) { checkQuorum() }
            // A transfer that takes longer than an election has failed; go on leading.
            if role == .leader {
                heldOffice?.transferee = .none
                leaveJointIfDue()
            }
        }
        guard role == .leader else { return }
        if heartbeatElapsed >= settings.heartbeatTicks {
            heartbeatElapsed = 0
            broadcastHeartbeat(context: heartbeatContext)
        }
    }

    /// Steps down unless a quorum was heard from since the last check (thesis §6.2).
    mutating func checkQuorum() {
        if !tracker.isQuorumActive(configuration) {
            becomeFollower(term: term, leader: .none)
        }
        for place in tracker.peers.indices where tracker.peers[place].id != id {
            tracker.peers[place].wasActive = tracker.peers[place].recentActive
            tracker.peers[place].recentActive = false
        }
    }

    // MARK: Support (DESIGN 7; RULES 55)

    /// Whether this peer's node has promised its leader not to help elect another.
    var isSupporting: Bool { now < supportedUntil }

    mutating func setSupport(until tick: UInt64) {
        if tick > now {
            supportedUntil = tick
        } else if supportedUntil != 0 {
            endSupport()
        }
    }

    /// The time that passed while the leader was supported counts: what is left is the jitter.
    private mutating func endSupport() {
        electionElapsed = max(electionElapsed, settings.electionTicks)
        supportedUntil = 0
        takeTurn()
    }

    // MARK: Damage (DESIGN 5)

    /// A leader that cannot read what it leads by gives way: to the follower that has most of the log,
    /// which need not wait for its election timeout.
    mutating func set(damaged: Bool) {
        isDamaged = damaged
        guard damaged, role != .follower else { return }
        if role == .leader {
            let next = tracker.peers.filter {
                $0.id != id && $0.recentActive && configuration.isVoter($0.id)
            }.max { ($0.match, $1.id) < ($1.match, $0.id) }
            if let next {
                messages.append(
                    Message(kind: .timeoutNow, to: next.id, from: id, term: term))
            }
        }
        becomeFollower(term: term, leader: .none)
    }

    // MARK: Campaigns

    /// Starts an election, if this peer may.
    mutating func campaign() {
        start(settings.flags.contains(.preVote) ? .preElection : .election)
    }

    /// Starts a campaign unless this peer leads, can't lead, or does not know the membership yet: it
    /// would count the votes of the wrong peers (RULES 10).
    mutating func start(_ campaign: Campaign) {
        guard role != .leader, isPromotable, term < RaftLimits.maxTerm else { return }
        // The leader itself gives up its support by asking for a transfer.
        if campaign != .transfer, isSupporting { return }
        guard log.applied >= campaignBarrier else { return }
        if log.applied < log.committed,
            log.hasUnappliedConfChange(pageBytes: settings.maxApplyingBytes) != false
        {
            return
        }
        run(campaign)
    }

    /// Enters the campaign and asks all voters, this peer first of all: its own vote counts once it
    /// is durable, like any other.
    private mutating func run(_ campaign: Campaign) {
        let ask: MessageKind
        let answer: MessageKind
        let voteTerm: Term
        if campaign == .preElection {
            becomePreCandidate()
            ask = .requestPreVote
            answer = .requestPreVoteResponse
            voteTerm = Term(term.rawValue + 1)
        } else {
            becomeCandidate()
            ask = .requestVote
            answer = .requestVoteResponse
            voteTerm = term
        }
        let context = campaign == .transfer ? CampaignContext.transfer : Bytes()
        for voter in configuration.allVoters.ids {
            if voter == id {
                messagesAfterAppend.append(
                    Message(kind: answer, to: id, from: id, term: voteTerm))
            } else {
                let request = Message(
                    kind: ask, to: voter, from: id, term: voteTerm, logTerm: log.lastTerm,
                    index: log.lastIndex, context: context)
                // A vote is granted to the log that is told of. If the disk then loses its end, and the term
                // with it, the vote must not come to a later campaign in the same term (RULES 1).
                #if BugBank
                    let isHasty = PlantedBug.leadsWithVolatileVote.isPlanted
                #else
                    let isHasty = false
                #endif
                if campaign != .preElection, !isHasty,
                    settings.flags.contains(.leadOnlyWithDurableVote)
                {
                    messagesAfterAppend.append(request)
                } else {
                    messages.append(request)
                }
            }
        }
    }

    /// Whether this candidate's requests wait until its vote for itself is durable.
    var awaitsOwnVote: Bool {
        role == .candidate && settings.flags.contains(.leadOnlyWithDurableVote)
            && !(heldOffice?.votes.contains { $0.peer == id } ?? false)
    }

    /// Counts an answer to this peer's campaign.
    mutating func count(vote granted: Bool, of peer: PeerID) {
        // Others are asked from now on, and have the whole timeout to answer.
        if peer == id, awaitsOwnVote { electionElapsed = 0 }
        if !office.votes.contains(where: { $0.peer == peer }) {
            office.votes.append((peer, granted))
        }
        let votes = office.votes
        let result = Quorum.result(
            incoming: configuration.voters, outgoing: configuration.outgoing
        ) { voter in votes.first { $0.peer == voter }?.granted }
        switch result {
        case .pending:
            break
        case .lost:
            becomeFollower(term: term, leader: .none)
        case .won:
            #if BugBank
                if PlantedBug.leadsWithVolatileVote.isPlanted, role == .candidate {
                    becomeLeader()
                    return broadcastAppend()
                }
            #endif
            // A membership change applied meanwhile may have taken away the right to lead.
            guard configuration.isVoter(id), !isDamaged else {
                becomeFollower(term: term, leader: .none)
                return
            }
            if role == .preCandidate {
                run(.election)
            } else if settings.flags.contains(.leadOnlyWithDurableVote),
                !votes.contains(where: { $0.peer == id })
            {
                // Won, but a power cut now would let this peer win the same term again with another
                // log. Its own vote is on its way to the disk and comes back here.
                break
            } else {
                becomeLeader()
                broadcastAppend()
            }
        }
    }
}
