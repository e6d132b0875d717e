// What a store keeps of each region beside its keys, written in the same batch as the data it
// describes (RULES 39).
//
//   state | version u8 = 1 | flags u8 | 0 u16 | 0 u32 | applied index u64 | applied term u64 |
//         | revision u64 | logged time u64 | epoch: confVersion u64, version u64 |
//         | horizon u64 | sessions u32 | 0 u32 |          if flag 2
//
// Little-endian. Flags name what else there is of the region: sections that follow in the order of
// their bits, or what lies under a key of its own. Unknown ones are refused.
//
//   1  the region's descriptor, under a key of its own (StateStore.swift): an entry has changed it
//   2  there are sessions, under keys of their own, or there were (SessionTable.swift)

package import UkehiBase

/// A region's applied position, counters and epoch.
package struct RegionState: Hashable, Sendable {
    package var applied: LogIndex
    package var appliedTerm: Term
    /// Raised by each command that is carried out; the version of what it writes.
    package var revision: UInt64
    /// max over the entries applied, nanoseconds since 1970; expiry is judged by it alone (RULES
    /// 77).
    package var loggedTime: UInt64
    package var epoch: RegionEpoch
    /// An entry has changed the region's descriptor: it is kept beside the state. Whoever cannot read it
    /// must not take the region for what it was at birth.
    package var hasDescriptor = false
    /// The latest opening among the sessions that the region has forgotten, in milliseconds since 1970.
    package var horizon: UInt64 = 0
    /// How many sessions are stored of the region.
    package var sessions: UInt32 = 0

    package init(
        applied: LogIndex = .zero, appliedTerm: Term = .zero, revision: UInt64 = 0,
        loggedTime: UInt64 = 0, epoch: RegionEpoch
    ) {
        self.applied = applied
        self.appliedTerm = appliedTerm
        self.revision = revision
        self.loggedTime = loggedTime
        self.epoch = epoch
    }

    static let formatVersion: UInt8 = 1
    private static let descriptorFlag: UInt8 = 1
    private static let sessionsFlag: UInt8 = 2
    private static let plainBytes = 56
    private static let sessionsBytes = 16

    /// Whether sessions are part of the state.
    package var hasSessions: Bool { horizon != 0 || sessions != 0 }
    package var encodedBytes: Int { Self.plainBytes + (hasSessions ? Self.sessionsBytes : 0) }

    /// Writes the state's ``encodedBytes`` bytes.
    package func encode(into target: UnsafeMutableRawBufferPointer) {
        func store(_ value: UInt64, _ position: Int) {
            target.storeBytes(
                of: value.littleEndian, toByteOffset: position * 8, as: UInt64.self)
        }
        let flags =
            (hasDescriptor ? Self.descriptorFlag : 0) | (hasSessions ? Self.sessionsFlag : 0)
        store(UInt64(Self.formatVersion) | UInt64(flags) << 8, 0)
        store(applied.rawValue, 1)
        store(appliedTerm.rawValue, 2)
        store(revision, 3)
        store(loggedTime, 4)
        store(epoch.confVersion, 5)
        store(epoch.version, 6)
        if hasSessions {
            store(horizon, 7)
            store(UInt64(sessions), 8)
        }
    }

    /// The state's bytes.
    package func encoded() -> Bytes {
        withUnsafeTemporaryAllocation(byteCount: encodedBytes, alignment: 8) { buffer in
            encode(into: buffer)
            return Bytes(copying: UnsafeRawBufferPointer(buffer))
        }
    }

    /// Reads what a store returned for `region`.
    package static func decode(_ bytes: Bytes, region: RegionID) throws(StateError) -> RegionState {
        try bytes.withUnsafeBytes { bytes throws(StateError) in
            guard bytes.count >= 2 else {
                throw StateError(
                    .corrupted, "The state of region \(region) is unreadable: it is cut short.")
            }
            guard bytes[0] == formatVersion, bytes[1] & ~(descriptorFlag | sessionsFlag) == 0
            else {
                throw StateError(
                    .newerFormat,
                    "Region \(region) is not opened: its state was written by a later version. "
                        + "Start that version again.")
            }
            let hasSessions = bytes[1] & sessionsFlag != 0
            let expected = plainBytes + (hasSessions ? sessionsBytes : 0)
            guard bytes.count == expected else {
                throw StateError(
                    .corrupted,
                    "The state of region \(region) is unreadable: \(bytes.count) bytes instead of "
                        + "\(expected).")
            }
            var state = RegionState(
                applied: LogIndex(bytes.u64(at: 8)), appliedTerm: Term(bytes.u64(at: 16)),
                revision: bytes.u64(at: 24), loggedTime: bytes.u64(at: 32),
                epoch: RegionEpoch(
                    confVersion: bytes.u64(at: 40), version: bytes.u64(at: 48)))
            state.hasDescriptor = bytes[1] & descriptorFlag != 0
            guard hasSessions else { return state }
            state.horizon = bytes.u64(at: 56)
            state.sessions = bytes.u32(at: 64)
            // A horizon is the opening time of some session.
            guard state.hasSessions, bytes.u32(at: 68) == 0,
                state.horizon <= UInt64.max >> SessionID.randomBits
            else {
                throw StateError(
                    .corrupted,
                    "The state of region \(region) is unreadable: what it says of sessions is not "
                        + "what this program writes.")
            }
            return state
        }
    }
}
