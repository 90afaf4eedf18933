"""What is said of a modality outside its model: reading, processor, collator; several of them as one mixture."""
