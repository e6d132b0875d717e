// Why the log could not do what was asked, and what an operator does about it.

package import UkehiBase

/// A place in the log: a segment and a byte in it.
package struct LogPosition: Hashable, Sendable, CustomStringConvertible {
    package var segment: UInt64
    /// Bytes from the segment's start.
    package var offset: UInt64

    package init(segment: UInt64, offset: UInt64) {
        self.segment = segment
        self.offset = offset
    }
    package var description: String { "segment \(segment), offset \(offset)" }
}

/// Entries of one region that the log holds and cannot read: all of one body.
package struct DamagedEntries: Hashable, Sendable {
    package var region: RegionID
    package var first: LogIndex
    package var last: LogIndex

    package init(region: RegionID, first: LogIndex, last: LogIndex) {
        self.region = region
        self.first = first
        self.last = last
    }
}

/// Why the log could not do what was asked. What was durable before is unchanged.
package struct WALError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A struct over a private enum, so that a new kind breaks nobody's `switch`.
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Kind: String {
            case corrupted, ioFailed, diskFull, overloaded, recordTooLarge, locked, identity
            case unsupportedVersion, configuration, compacted, unavailable, failed, recycled
        }
        private let kind: Kind
        private init(_ kind: Kind) { self.kind = kind }

        /// A check failed on bytes that were acknowledged, or may have been. Nothing was changed.
        package static var corrupted: Self { .init(.corrupted) }
        /// A read, write, sync or name operation failed; the file's state is unknown.
        package static var ioFailed: Self { .init(.ioFailed) }
        /// No space. From `submit`: nothing was written, try again after space was freed.
        package static var diskFull: Self { .init(.diskFull) }
        /// The queue holds its bound of bytes; nothing was taken. Try again after a completion.
        package static var overloaded: Self { .init(.overloaded) }
        /// The batch can never fit in a frame; nothing was taken. Never retry.
        package static var recordTooLarge: Self { .init(.recordTooLarge) }
        /// Another process holds the directory.
        package static var locked: Self { .init(.locked) }
        /// A file that does not belong to this log.
        package static var identity: Self { .init(.identity) }
        /// Written by a newer version.
        package static var unsupportedVersion: Self { .init(.unsupportedVersion) }
        /// Options that cannot work.
        package static var configuration: Self { .init(.configuration) }
        /// The entries asked for are compacted away.
        package static var compacted: Self { .init(.compacted) }
        /// The entries asked for are not durable yet, or the region is not there.
        package static var unavailable: Self { .init(.unavailable) }
        /// The log stopped after an earlier failure, or was closed; nothing was taken.
        package static var failed: Self { .init(.failed) }
        /// A running node removed or reused the segment while a tool read it. Read again.
        package static var recycled: Self { .init(.recycled) }

        package var description: String { kind.rawValue }

        /// What the process exits with when this error ends it (docs/OPERATING.md).
        package var exitCode: Int32 {
            switch kind {
            case .corrupted: 20
            case .diskFull: 22
            case .identity, .locked, .unsupportedVersion: 24
            case .recycled: 69
            case .configuration: 78
            default: 21
            }
        }
    }

    package var code: Code
    /// What happened and what to do, for an operator. Never contains keys or values.
    package var message: String
    /// The place, when one place is to blame.
    package var position: LogPosition?
    /// The entries that cannot be read, where only those are to blame: peers have them.
    package var damaged: DamagedEntries?

    package init(
        _ code: Code, _ message: String, at position: LogPosition? = nil,
        damaged: DamagedEntries? = nil
    ) {
        self.code = code
        self.message = message
        self.position = position
        self.damaged = damaged
    }

    package var description: String {
        guard let position else { return "\(code): \(message)" }
        return "\(code) at \(position): \(message)"
    }
}

/// What opening does about entries that were acknowledged and cannot be read.
package enum DamagePolicy: Sendable, Hashable {
    /// Throws ``WALError/Code/corrupted`` with the place and what would be lost. Nothing is changed.
    case refuse
    /// Opens where only bodies of appends are damaged, and every entry's index and term is known
    /// nevertheless; names the entries (``RecoveredRegion/damaged``), which a peer can give back
    /// (``WriteAheadLog/mend(region:first:entries:)``). Anything else is as with `refuse`.
    case repair
}
