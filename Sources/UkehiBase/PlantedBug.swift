// Known bugs, planted on purpose, that the simulator must find: the proof that its net has no holes.
//
// They exist only in builds with the trait `BugBank`, which nobody uses but `ukehi bug-bank`. Each is
// a mistake that some system of this kind has made; the name says what is done wrong.

#if BugBank

    package enum PlantedBug: String, CaseIterable, Sendable {
        // Elections.
        /// A vote is answered before it is on disk, and never gets there (Raft §5.2; RULES 1).
        case voteNotPersisted
        /// A peer votes for everybody who asks in a term.
        case votesTwice
        /// A candidate with an older log is elected (Raft §5.4.1).
        case candidateLogUnchecked
        /// Votes of a term that has passed count in the next.
        case oldVotesCounted
        /// A candidate leads before its own vote is on disk.
        case leadsWithVolatileVote
        /// A majority is half.
        case halfIsMajority

        // Replication.
        /// An entry of an older term is committed by counting (Raft §5.4.2; RULES 3).
        case commitsOldTermByCount
        /// A follower appends after an entry of another term (Raft §5.3).
        case previousTermUnchecked
        /// A follower cuts its log where an old append ends, though it matches (RULES 2).
        case truncatesWhatMatches
        /// Heartbeats tell the commit index to whoever does not hold it.
        case heartbeatTellsEverything
        /// A leader of a term that has passed is obeyed.
        case staleLeaderObeyed
        /// Appends are acknowledged before they are on disk (RULES 1).
        case acknowledgesBeforeDurable
        /// What a peer answers to an old leader counts as an acknowledgement of index zero.
        case lateAnswerCounts

        // Reads and answers.
        /// A leader reads without asking whether it still leads (RULES 52).
        case readsUnconfirmed
        /// A leader reads before it has committed in its term (RULES 52).
        case readsBeforeOwnCommit
        /// Any heartbeat's answer confirms any read.
        case anyAnswerConfirmsReads
        /// A read is served before its index is applied.
        case readsUnapplied
        /// A write that waited too long is called rejected, though it may be done (TESTING R5).
        case timeoutIsRejection
        /// What a leader proposed is called rejected when it is deposed, though it may be done.
        case depositionIsRejection
        /// An entry of another leader at the same index counts as the one that was proposed.
        case answersByIndexAlone

        // The log.
        /// Frames are acknowledged without a sync.
        case frameNotSynced
        /// A frame is acknowledged when its own sync ends, whatever is in front of it (TESTING R1).
        case acknowledgesOutOfOrder
        /// The first frame of a segment is written while the last one's are in flight.
        case rotatesWithoutBarrier
        /// A new segment's name is never made durable.
        case directoryNotSynced
        /// Recovery builds on what a killed process left in the page cache.
        case recoveryTrustsPageCache
        /// Recovery cuts the log wherever a frame is wrong (RULES 44).
        case corruptionIsTornTail
        /// What is read back is believed without its checksum (RULES 44).
        case readsUnchecked
        /// A frame claims itself as durable.
        case claimsItself
        /// Hard states that are only in a dead segment go with it (RULES 40).
        case statesNotCarried
        /// The log goes while the state it became is in memory only (RULES 41).
        case compactsUnflushed

        // Snapshots.
        /// A snapshot that was being installed when the process ended counts as installed (RULES 48).
        case markIsEnough
        /// The core goes on with the members it had, not with the snapshot's (RULES 47).
        case snapshotKeepsOldMembers
        /// The index of a snapshot is read apart from its state, which is of an entry before (RULES 47).
        case snapshotClaimsMore
        /// The log is reset before the state store has what the snapshot holds.
        case logResetFirst
        /// A snapshot is installed while entries from before it are being applied.
        case replacesWhileApplying
        /// The log is compacted behind a kept snapshot that is not written yet (RULES 40).
        case compactsBeforeKept
        /// What was kept of a region is there for its next peer on the node (RULES 20).
        case keptOutlivesPeer

        // State.
        /// The applied index in a batch is the one before it.
        case appliedIndexBehind

        // Members.
        /// A changed configuration is stored with the next batch, not with the index that it is of (RULES 39).
        case configurationLate
        /// A configuration is in force on followers when its entry is on disk (RULES 9).
        case configurationWhenAppended
        /// Who was removed goes on being counted (RULES 15).
        case removedPeerCounted
        /// A peer that is gone leaves no tombstone, and is back after a restart (RULES 20).
        case tombstoneNotDurable
        /// A peer that does not answer may vote, if it lacks little (RULES 13).
        case promotesUnheard
        /// A new peer comes to be before what the old one left cannot come back (RULES 20).
        case removalNotFlushed

        // Splits.
        /// A new region's state is not written with what divides its parent (RULES 26).
        case splitNotAtomic
        /// A region is divided before the births of the new ones are on disk.
        case childBirthVolatile
        /// A division of another epoch divides (RULES 22).
        case splitIgnoresEpoch
        /// What a new region commits is applied before the division out of which it comes.
        case appliesAheadOfKeys
        /// A first leader leads its term again after a restart.
        case leadsFirstTermAgain
        /// Who was not there replays what was before a division.
        case replaysBeforeSplit
        /// A new region counts its revisions from the beginning.
        case versionsBeginAgain
        /// What may be read before a division is read after it, whoever has the key by then (RULES 28).
        case readsOutlastSplit
        /// The log out of which new regions' keys would be replayed goes before these survive by themselves (RULES 40).
        case parentsLogGoesFirst
        /// A peer comes to be while another region here has its keys still, which it is to come out of (RULES 19).
        case createsAheadOfSplit

        // The map of regions.
        /// What a node tells of its regions is told once, whether or not it is heard (RULES 63).
        case lostReportForgotten

        // Sessions.
        /// A new region does not know the sessions of the one it comes out of.
        case sessionsNotSplit
        /// A snapshot is without the sessions of its region.
        case sessionsNotInSnapshot
        /// What a command came to is remembered in the batch after its own (RULES 39).
        case sessionsLate
        /// Sessions are forgotten, and nobody knows that they ever were.
        case evictedWithoutHorizon
        /// That a command was not carried out for its epoch is remembered as its result.
        case staleEpochRemembered

        // Nodes that come and go.
        /// A wiped node gets its old id, and with it the peers that it has forgotten (RULES 16).
        case wipedNodeKeepsItsID
        /// A node that was declared dead comes back, and is taken for one (RULES 74).
        case deadNodesAreAccepted
        /// A peer that was chosen to lead forgets it with its process, after it has led.
        case recoveryNotDurable

        /// The one that is in force. Safety: set once, before anything runs.
        nonisolated(unsafe) package static var planted: PlantedBug?
        package var isPlanted: Bool { Self.planted == self }
    }

#endif
