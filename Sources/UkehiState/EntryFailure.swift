// The errors of entries that must not be applied.

import UkehiBase

extension StateError {
    /// A committed entry cannot be read by this program.
    init(_ error: EntryError, _ entry: Entry, _ region: RegionID) {
        switch error {
        case .newerFormat:
            self.init(
                .newerFormat,
                "Region \(region) stops at index \(entry.index): the entry was written by a later "
                    + "version of this program. Start that version on this node.")
        case .malformed:
            self.init(
                .unreadableEntry,
                "Region \(region) stops at index \(entry.index): the committed entry's bytes are "
                    + "malformed. Nothing of it was applied; this node's log or memory is damaged.")
        }
    }
}
