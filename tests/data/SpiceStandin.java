// Stand-in for SPICE's parser in tests: the real one needs Stanford CoreNLP 3.6.0 and its models (a download).
// It finds no sentence in any caption, so every f is 0; SPICE's command line, cache (LMDB, FST) and JSON output are the real ones.
// Remake spice-standin.jar:
//   cp SpiceStandin.java Annotator.java && javac --release 8 -cp stanford-corenlp-3.4.1.jar -d . Annotator.java && python -m zipfile -c spice-standin.jar edu
package edu.anu.spice;

import edu.stanford.nlp.ling.CoreAnnotations;
import edu.stanford.nlp.pipeline.Annotation;
import edu.stanford.nlp.util.CoreMap;
import java.util.ArrayList;
import java.util.List;

public class Annotator {
    private List<String> captions;

    public Annotator(int threads, int batchSize) {}

    public void setInput(List<String> captions) {
        this.captions = captions;
    }

    List<Annotation> parseNextBatch() {
        List<Annotation> parsed = new ArrayList<Annotation>();
        for (String caption : captions) {
            Annotation annotation = new Annotation(caption);
            annotation.set(CoreAnnotations.SentencesAnnotation.class, new ArrayList<CoreMap>());
            parsed.add(annotation);
        }
        return parsed;
    }
}
