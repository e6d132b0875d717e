// What a lane needs to open a region: facts gathered off the lane, where blocking is allowed.

package import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
package import UkehiWAL

/// A region about to be opened by its lane.
package struct RegionSeed: Sendable {
    package var birth: RegionBirth
    /// As of `applied`.
    package var descriptor: RegionDescriptor
    package var hardState: HardState
    package var firstIndex: LogIndex
    package var lastIndex: LogIndex
    package var compactedTerm: Term
    package var terms: [TermRun]
    /// Entries that the log holds and cannot read.
    package var damaged: [DamagedEntries] = []
    /// A snapshot that the store has and the log does not know of yet: the log is to be reset.
    package var replaced: SnapshotMark?
    /// What the state store holds of it.
    package var applied: LogIndex
    /// Whom the peer does not count, since a recovery has it lead without them.
    package var absent: Set<NodeID> = []
    /// Whether this peer should be its new region's first leader.
    package var campaignsFirst: Bool
    /// Whether the state has its keys; a new region may be opened ahead of them.
    package var hasKeys = true
    /// Nothing here will bring them: its leader is to.
    package var keysAreLost = false
    /// Whether every member has voted for this peer by being born; only at its birth.
    package var leadsFirst = false
    /// Who does, if it is another one; only at its birth.
    package var firstLeader: PeerID?
}

extension RegionSeed {
    /// Whether the log ends before a snapshot that the store has, or has another entry there.
    func needsReset(to mark: SnapshotMark) -> Bool {
        if mark.index > lastIndex { return true }
        if mark.index + 1 < firstIndex { return false }
        if mark.index + 1 == firstIndex { return compactedTerm != mark.term }
        return terms.last { $0.start <= mark.index }?.term != mark.term
    }

    /// The log is taken to be empty behind a snapshot; the lane makes it so.
    mutating func reset(to mark: SnapshotMark) {
        replaced = mark
        firstIndex = mark.index + 1
        lastIndex = mark.index
        compactedTerm = mark.term
        terms = []
        damaged = []
        // A peer that had voted in the snapshot's term, and whose vote is lost, has told nobody of it.
        if hardState.term < mark.term { hardState = HardState(term: mark.term) }
        hardState.commit = mark.index
    }

    /// The log always reaches what was applied: state is applied only from durable entries, and what a
    /// snapshot brought past them has its mark.
    func check() throws(NodeError) {
        guard applied <= lastIndex, applied + 1 >= firstIndex else {
            throw NodeError(
                code: .corrupted,
                message: "Region \(descriptor.region): the state store has applied "
                    + "\(applied), the log holds \(firstIndex) to \(lastIndex). "
                    + "Log and state are of different times; restore both from one backup, or "
                    + "remove this node and join it anew.")
        }
    }
}

extension Lane {
    /// Opens regions, and the router that finds them; the node fails where that fails. On the lane's thread.
    func take(_ seeds: [RegionSeed], node: NodeID, cluster: ClusterID, router: Router) {
        self.cluster = cluster
        do throws(NodeError) {
            try install(seeds, node: node, router: router)
        } catch {
            fail(error)
        }
    }

    private func install(_ seeds: [RegionSeed], node: NodeID, router: Router) throws(NodeError) {
        let isSameRouter = router.generation <= self.router.generation
        if !isSameRouter { self.router = router }
        self.node = node
        var removed: [Region] = []
        for seed in seeds {
            guard let own = seed.birth.naming.peer(on: node) else { continue }
            arriving.remove(seed.descriptor.region)
            if let region = regions[seed.descriptor.region] {
                if region.awaitsKeys, seed.hasKeys { keysCame(to: region) }
                continue
            }
            // It came, and has gone already.
            if let grave = tombstones[seed.descriptor.region], own.peer <= grave.peer { continue }
            let region = try open(seed, own)
            regions[region.id] = region
            if seed.hasKeys { orderedRegions.append(region) } else { awaitKeys(of: region) }
            region.keysAreLost = seed.keysAreLost
            markDirty(region)
            if seed.leadsFirst {
                region.isFirstLed = true
                region.raft.leadFirstTerm()
            }
            region.log.makeOffer = { [unowned self, unowned region] in offer(region) }
            if let mark = seed.replaced { finish(mark, seed.hardState, region) }
            observer?.opened(status(region)) { index in region.raft.term(at: index) }
            if seed.keysAreLost { observer?.lostKeys(region: region.id) }
            for damage in seed.damaged { found(damage) }
            let early = earlyAppends.take(region.id, at: ticks)
            if let leader = seed.firstLeader {
                if let early { receive(early) }
                // None was kept, or it could not be taken.
                if region.raft.lastIndex == seed.lastIndex { greet(leader, region) }
            }
            if region.isRemoved { removed.append(region) }
        }
        // What is opened ahead is in neither.
        if isSameRouter, seeds.allSatisfy({ !$0.hasKeys }) { return }
        orderedRegions.sort { $0.id < $1.id }
        routeRegions()
        // The process ended between its last entry and its tombstone.
        for region in removed { leave(region, as: region.descriptor) }
    }

    /// The first leader's appends found nobody here before, and were not kept: told that this peer is here it sends
    /// them again, and not only when it has a heartbeat answered.
    private func greet(_ leader: PeerID, _ region: Region) {
        send(
            Message(
                kind: .heartbeatResponse, to: leader, from: region.peer, term: region.raft.term),
            region)
    }

    /// Step 3 of an installation that an earlier life of the process did not end.
    private func finish(_ mark: SnapshotMark, _ hardState: HardState, _ region: Region) {
        region.replacement = Replacement(
            stage: .resetting, index: mark.index, term: mark.term, mark: mark, held: [])
        batch.reset(
            region: region.id, index: mark.index, term: mark.term, hardState: hardState)
        wait(
            InFlightBatch.Item(
                region: region, entries: [], responses: [], reset: (mark.index, mark.term)))
    }

    private func open(_ seed: RegionSeed, _ own: PeerDescriptor) throws(NodeError) -> Region {
        var hardState = seed.hardState
        hardState.commit = max(hardState.commit, seed.applied)
        let log = RegionLog(
            hardState: hardState,
            configuration: seed.absent.isEmpty
                ? seed.descriptor.configuration
                : seed.descriptor.configuration(without: seed.absent, led: own.peer),
            first: seed.firstIndex, last: seed.lastIndex, compactedTerm: seed.compactedTerm,
            runs: seed.terms)
        let timing = RaftTiming(
            electionTimeoutMilliseconds: options.electionTimeoutMilliseconds,
            heartbeatMilliseconds: options.heartbeatIntervalMilliseconds,
            tickMilliseconds: options.tickMilliseconds)
        var configuration = RaftConfiguration(
            id: own.peer, electionTicks: timing.electionTicks,
            heartbeatTicks: timing.heartbeatTicks)
        configuration.electionJitterTicks = timing.electionJitterTicks
        configuration.applied = seed.applied
        configuration.asyncStorageWrites = true
        configuration.checkQuorum = true
        configuration.preVote = true
        configuration.disableProposalForwarding = true
        configuration.stepDownOnRemoval = true
        configuration.refuseInvalidConfChanges = true
        configuration.lazyCommitBroadcast = true
        configuration.lazyCommitPersistence = true
        configuration.restartCampaignBarrier = true
        configuration.refusalTellsCommit = true
        configuration.leadOnlyWithDurableVote = true
        configuration.campaignsInTurn = true
        configuration.beginsAt =
            seed.descriptor.epoch.version > seed.birth.origin.epoch.version
            ? max(seed.birth.logBegins, LogIndex(1)) : seed.birth.logBegins
        configuration.maxMessageBytes = options.raft.messageBytes
        configuration.maxCommittedBytesPerReady = options.raft.committedBytesPerReady
        configuration.maxUncommittedBytes = options.raft.uncommittedBytes
        configuration.maxInflightMessages = options.raft.inflightMessages
        configuration.maxInflightBytes = options.raft.inflightBytes
        // Peers of one region draw different timeouts, peers of one node's regions too.
        configuration.seed = own.peer.rawValue &* 0x9E37_79B9_7F4A_7C15 ^ clock.now().nanoseconds
        let raft: RawNode
        do {
            raft = try RawNode(
                configuration: configuration, storage: log, pool: settingsPool)
        } catch {
            throw NodeError(
                code: .corrupted,
                message: "Region \(seed.descriptor.region) cannot be opened: \(error).")
        }
        let region = Region(
            birth: seed.birth, descriptor: seed.descriptor, peer: own.peer, raft: raft, log: log,
            hardState: hardState, outboxSlots: [], applied: seed.applied,
            firstCampaigns: seed.descriptor.peers.count == 1 ? 1 : seed.campaignsFirst ? 9 : 0)
        region.heardTick = ticks
        region.absent = seed.absent
        region.raft.sendsDurableOnly = !seed.absent.isEmpty
        region.load = RegionLoad(region: region.id, threshold: options.splitLoadPerSecond)
        findContacts(of: region)
        return region
    }
}
