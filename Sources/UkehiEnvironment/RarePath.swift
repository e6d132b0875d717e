// Places where the shipped code has a usual way and a rarer one that is just as right: the simulator
// takes the rare one far more often than the world does (FoundationDB's BUGGIFY).
//
// Each point keeps every promise; it only makes something smaller, later, twice or not at all that may
// be so at any time. A point that a promise forbids would be a fault, and belongs to the simulator.

/// One such place. Named after what happens when the rare way is taken.
public enum RarePath: UInt8, CaseIterable, Sendable {
    // UkehiWAL: groups and frames.
    /// A batch gets a group of its own though it would fit in the last one.
    case groupPerBatch
    /// A frame waits until no other is in flight.
    case frameAlone
    /// What is durable is claimed by an empty frame at once, not after a rest.
    case claimAtOnce
    /// A batch is refused as `overloaded` though there is room.
    case batchRefused
    /// Durable tickets are told with the next frame's.
    case ticketsToldLate
    /// A frame's buffer is given back rather than kept.
    case frameBufferDropped

    // UkehiWAL: segments.
    /// A segment is left though the next frame would fit.
    case segmentLeftEarly
    /// A segment is left right after its first frame.
    case segmentLeftYoung
    /// A segment is left without a frame in it.
    case segmentLeftEmpty
    /// The preparer zeroes two blocks, not a megabyte.
    case preparedBitByBit
    /// The preparer does nothing this time.
    case preparedLate
    /// A prepared segment is thrown away as it is needed.
    case spareDropped
    /// What lies behind a sealed segment's end stays on disk.
    case oldTailKept
    /// A dead segment's file stays until the next start.
    case deadSegmentKept
    /// States in the oldest segment are written again though entries still hold it.
    case carriedEarly
    /// One region's state is written again, not a group's worth.
    case carriedAlone
    /// The background check begins its next round at once.
    case scrubbedAgain
    /// A sealed segment gets no footer.
    case footerLeftOut
    /// A sealed segment is scanned though it has a footer.
    case footerIgnored
    /// A read of entries ends after the first block.
    case readOneBlock
    /// Entries are read and checked twice.
    case readTwice

    // UkehiNode: what comes in.
    /// Some of the waiting requests are left for the next pass.
    case fewRequests
    /// Some of the waiting messages are left for the next pass.
    case fewMessages
    /// Appends from peers are dropped as with a full log.
    case appendsDropped
    /// What became durable is taken in a pass later.
    case durableTakenLate
    /// What was applied is taken in a pass later.
    case appliedTakenLate
    /// A pass handles some of the groups with news, the others in the next.
    case fewGroups
    /// A group's Ready is taken once; what is left waits for the next pass.
    case oneReadyAPass
    /// A pass runs though nothing has happened.
    case idlePass

    // UkehiNode: requests.
    /// A write is refused as `overloaded`.
    case writeRefused
    /// A read is refused as `overloaded`.
    case readRefused
    /// The router does not know the key, as before it has learnt of a region.
    case routeUnknown
    /// Waiting writes are proposed a pass later.
    case proposedLate
    /// A command gets an entry of its own.
    case commandAlone
    /// A read round is asked for a pass later.
    case roundAskedLate
    /// A read gets a round of its own.
    case readAlone
    /// A second round is asked for while one is under way.
    case roundsOverlap
    /// A reply takes the way through the mailbox.
    case replyLate

    // UkehiNode: what goes out.
    /// A pass's messages leave with the next pass.
    case sentLate
    /// Messages to one node are sent one by one.
    case sentOneByOne
    /// The pass's log batch stays and grows.
    case batchSubmittedLate
    /// Committed entries are applied a pass later.
    case appliedLate
    /// Some regions' committed entries are applied, the others' in the next batch.
    case fewApplied
    /// A small batch goes to the apply thread all the same.
    case appliedOnThread

    /// The state takes up to two seconds before it begins with a division, and with what is behind it.
    case dividedLate
    /// A new region is opened with its keys, not ahead of them.
    case openedWithKeys

    // UkehiNode: time and leadership.
    /// A group's timers miss a tick.
    case tickMissed
    /// A group's timers get two ticks at once.
    case tickDoubled
    /// A quiet leader's commit is told by the next heartbeat.
    case commitToldLate
    /// A leader hands its office to another peer.
    case officeHandedOver
    /// A follower campaigns though it hears a leader.
    case campaignUnasked
    /// A follower forgets its leader.
    case leaderForgotten
    /// A peer is reported unreachable that is not.
    case peerUnreachable

    // UkehiNode: upkeep.
    /// What is done once a second is done now.
    case maintainedEarly
    /// A leader proposes to compact the little there is.
    case compactedEarly
    /// A snapshot that could be installed waits for a tick.
    case replacedLate
    /// Part of what the group agreed to compact goes.
    case compactedPartly
    /// Applied entries leave memory though a peer lags.
    case entryCacheDropped
    /// Entries read from disk are forgotten and read again.
    case fetchedDropped
    /// The log is asked to free segments though nothing was compacted.
    case purgedUnasked
    /// Purging pauses after each segment.
    case purgedStepwise
    /// The store is asked to flush though little is unflushed.
    case flushedUnasked

    // UkehiState.
    /// Each item of an apply batch becomes a store batch of its own.
    case itemAlone
    /// The block cache does not have what a lane reads.
    case cacheMissed
    /// The store does not say what is flushed.
    case flushedUnknown
    /// A page of a scan ends before it is full.
    case pageEndedEarly
    /// A new store batch is made though one is idle.
    case batchPoolMissed

    /// As in reports.
    package var name: String { "\(self)" }
}
