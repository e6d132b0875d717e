// What a core keeps of its settings, shared by the groups of one node that have the same.

import UkehiBase

/// The settings that are read after the start.
struct CoreSettings: Hashable, Sendable {
    let maxMessageBytes: UInt64
    let maxUncommittedBytes: UInt64
    /// Entries handed out to be applied and not acknowledged.
    let maxApplyingBytes: UInt64
    let maxInflightBytes: UInt64
    let maxInflightMessages: UInt32
    let electionTicks: Int32
    let jitterTicks: Int32
    let heartbeatTicks: Int32
    let flags: Flags

    struct Flags: OptionSet, Hashable, Sendable {
        let rawValue: UInt16
        static let asyncStorageWrites = Flags(rawValue: 1 << 0)
        static let checkQuorum = Flags(rawValue: 1 << 1)
        static let preVote = Flags(rawValue: 1 << 2)
        static let leaseReads = Flags(rawValue: 1 << 3)
        static let disableForwarding = Flags(rawValue: 1 << 4)
        static let stepDownOnRemoval = Flags(rawValue: 1 << 5)
        static let skipChangeValidation = Flags(rawValue: 1 << 6)
        static let refuseInvalidChanges = Flags(rawValue: 1 << 7)
        static let lazyCommitBroadcast = Flags(rawValue: 1 << 8)
        static let lazyCommitPersistence = Flags(rawValue: 1 << 9)
        static let coalesceAcknowledgements = Flags(rawValue: 1 << 10)
        static let leadOnlyWithDurableVote = Flags(rawValue: 1 << 11)
        static let refusalTellsCommit = Flags(rawValue: 1 << 12)
        static let campaignsInTurn = Flags(rawValue: 1 << 13)
    }

    init(_ configuration: RaftConfiguration) {
        maxMessageBytes = configuration.maxMessageBytes
        maxUncommittedBytes =
            configuration.maxUncommittedBytes == 0 ? .max : configuration.maxUncommittedBytes
        maxApplyingBytes =
            configuration.maxCommittedBytesPerReady ?? max(1, configuration.maxMessageBytes)
        maxInflightBytes = configuration.maxInflightBytes
        maxInflightMessages = UInt32(clamping: configuration.maxInflightMessages)
        electionTicks = Int32(configuration.electionTicks)
        jitterTicks = Int32(configuration.electionJitterTicks ?? configuration.electionTicks)
        heartbeatTicks = Int32(configuration.heartbeatTicks)
        var flags: Flags = []
        func set(_ flag: Flags, _ condition: Bool) { if condition { flags.insert(flag) } }
        set(.asyncStorageWrites, configuration.asyncStorageWrites)
        set(.leadOnlyWithDurableVote, configuration.leadOnlyWithDurableVote)
        set(.refusalTellsCommit, configuration.refusalTellsCommit)
        set(.campaignsInTurn, configuration.campaignsInTurn)
        set(.checkQuorum, configuration.checkQuorum)
        set(.preVote, configuration.preVote)
        set(.leaseReads, configuration.readMode == .lease)
        set(.disableForwarding, configuration.disableProposalForwarding)
        set(.stepDownOnRemoval, configuration.stepDownOnRemoval)
        set(.skipChangeValidation, configuration.disableConfChangeValidation)
        set(.refuseInvalidChanges, configuration.refuseInvalidConfChanges)
        set(.lazyCommitBroadcast, configuration.lazyCommitBroadcast)
        set(.lazyCommitPersistence, configuration.lazyCommitPersistence)
        set(.coalesceAcknowledgements, configuration.coalesceAcknowledgements)
        self.flags = flags
    }
}

final class SharedSettings: Sendable {
    let value: CoreSettings
    init(_ value: CoreSettings) { self.value = value }
}

/// Lets nodes that are made with the same settings keep them once: with thousands of groups, a tenth
/// of what a group at rest holds. Used by one thread at a time, and only while nodes are made.
public final class RaftSettingsPool {
    private var known: [SharedSettings] = []

    public init() {}

    func shared(_ settings: CoreSettings) -> SharedSettings {
        if let found = known.first(where: { $0.value == settings }) { return found }
        let made = SharedSettings(settings)
        known.append(made)
        return made
    }
}
